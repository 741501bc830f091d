-- Reads a decimal integer from text, in least .. most or else in 0 .. 2^53-1. By pattern, because bare tonumber also
-- takes 0x10, 1e3, nan and inf, and a NaN passes every comparison of a stock check. 16 digits: microseconds since 1970
-- need them.
local function integer(text, name, least, most)
  if text and #text <= 16 and text:find('^%d+$') then
    local value = tonumber(text)
    if value >= (least or 0) and value <= (most or 9007199254740991) then
      return value
    end
  end
  return error(redis.error_reply('BADARG ' .. name .. ' is not an integer in range'))
end
