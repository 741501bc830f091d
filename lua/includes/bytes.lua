-- The order of bytes; that of Lua is the locale's.
local function is_before(one, other)
  for i = 1, math.min(#one, #other) do
    if one:byte(i) ~= other:byte(i) then
      return one:byte(i) < other:byte(i)
    end
  end
  return #one < #other
end
