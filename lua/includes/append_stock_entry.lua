-- @include append_entry

-- `location` is a table of includes/locations.lua, or nil for what is about no location.
local function append_stock_entry(command, kind, sku, balances, quantity, location, source, reason, data)
  local location_name = location and location.name or ''
  local location_kind = location and (location.is_shared and 'shared' or 'dedicated') or ''
  next_sequence(command, balances)
  redis.call(
    'XADD', command.ledger_key, balances.sequence .. '-0',
    'type', kind, 'at_us', command.now, 'command', command.id, 'sku', sku, 'quantity', quantity,
    'on_hand', balances.on_hand, 'reserved', balances.reserved, 'committed', balances.committed,
    'backordered', balances.backordered, 'available', balances.available,
    'safety_stock', balances.safety_stock,
    'location', location_name, 'location_kind', location_kind, 'source', source, 'reason', reason, 'data', data
  )
end
