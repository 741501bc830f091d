-- The only source of time: the engine's wall clock in microseconds. Tests put a virtual clock in place of this
-- fragment, which is why it is told the key of the partition's meta hash.
local function wall_clock_us(_meta_key)
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
