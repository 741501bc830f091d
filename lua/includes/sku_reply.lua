-- @include balances
-- @include next_release
-- @include locations
-- @include policy_fields

-- The reply of every command on a SKU: its quantities, its locations (one a row: location TAB kind TAB on_hand TAB
-- allocated), what is left of the channel's limit where a channel is named and has one, and its policy, where an empty
-- text means the default.
local function location_rows(locations_key)
  local rows = {}
  for name, location in pairs(load_locations(locations_key)) do
    local kind, allocated = location.kind or 'shared', location.allocated or '0'
    rows[#rows + 1] = table.concat({ name, kind, location.on_hand, allocated }, '\t')
  end
  return table.concat(rows, '\n')
end

local function sku_reply(status, command, stock, channel)
  local balances = load_balances(stock.sku_key, channel)
  local channel_left = ''
  if balances.channel_limit then
    channel_left = decimal(math.max(0, balances.channel_limit - balances.promised))
  end
  local reply = {
    status, command.now, redis.call('HGET', stock.sku_key, 'sequence'), balances.on_hand, balances.reserved,
    balances.committed, balances.backordered, balances.safety_stock, shown_available(balances),
    decimal(shortfall_of(balances)), next_release(command, stock.holds_key), location_rows(stock.locations_key),
    channel_left,
  }
  local policy = redis.call('HMGET', stock.sku_key, unpack(POLICY_FIELDS))
  for i = 1, #POLICY_FIELDS do
    reply[#reply + 1] = policy[i] or ''
  end
  return reply
end

local function empty_sku_reply(status, command, sequence)
  local reply = { status, command.now, sequence or '0' }
  for i = 4, 13 + #POLICY_FIELDS do
    reply[i] = ''
  end
  return reply
end
