-- Writes an integer with all its digits: `..` and tostring round beyond 14 of them. %d is a C long: exact for every
-- integer that a double holds, and twice as fast as %.0f.
local format = string.format

local function decimal(value)
  return format('%d', value)
end
