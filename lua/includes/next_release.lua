-- When the next unit of a SKU may come back, in us: the earliest deadline of a hold; 0 when nothing is held. A
-- reservation in its reconciliation window gives nothing back, so the earliest few are looked at one by one: the window
-- may be another line's, or of a policy that has changed since.
local NEXT_RELEASE_LOOKS_MAX = 8

local function next_release(command, holds_key)
  local earliest = redis.call('ZRANGE', holds_key, 0, NEXT_RELEASE_LOOKS_MAX - 1, 'WITHSCORES')
  for i = 1, #earliest, 2 do
    local reservation_key = command.prefix .. 'reservation:' .. earliest[i]
    if redis.call('HGET', reservation_key, 'status') ~= 'pending_reconciliation' then
      return earliest[i + 1]
    end
  end
  return '0'
end
