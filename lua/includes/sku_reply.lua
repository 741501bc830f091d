-- @include balances
-- @include next_release

-- The reply of every command on a SKU: its quantities, its locations (one a row: location TAB on_hand) and its
-- policy, where an empty text means the default.
local function sku_reply(status, command, sku_key, holds_key, locations_key)
  local fields = redis.call(
    'HMGET', sku_key,
    'safety_stock_units', 'safety_stock_basis_points', 'backorder_limit', 'low_stock_threshold',
    'max_quantity_per_reservation', 'reconciliation_hold_us', 'lead_time_days', 'next_restock_date', 'incoming',
    'substitutes', 'variant_group', 'sequence'
  )
  local balances = load_balances(sku_key)
  local rows = {}
  local locations = redis.call('HGETALL', locations_key)
  for i = 1, #locations, 2 do
    rows[#rows + 1] = locations[i] .. '\t' .. locations[i + 1]
  end
  table.sort(rows)
  local reply = {
    status, command.now, fields[12], balances.on_hand, balances.reserved, balances.committed,
    balances.backordered, balances.safety_stock, shown_available(balances), decimal(shortfall_of(balances)),
    next_release(command, holds_key), table.concat(rows, '\n'),
  }
  for i = 1, 11 do
    reply[#reply + 1] = fields[i] or ''
  end
  return reply
end

local function empty_sku_reply(status, command, sequence)
  local reply = { status, command.now, sequence or '0' }
  for i = 4, 23 do
    reply[i] = ''
  end
  return reply
end
