-- @include append_entry

local function append_stock_entry(command, kind, sku, balances, quantity, location, source, reason, data)
  next_sequence(command, balances)
  redis.call(
    'XADD', command.ledger_key, balances.sequence .. '-0',
    'type', kind, 'at_us', command.now, 'command', command.id, 'sku', sku, 'quantity', quantity,
    'on_hand', balances.on_hand, 'reserved', balances.reserved, 'committed', balances.committed,
    'backordered', balances.backordered, 'available', balances.available,
    'safety_stock', balances.safety_stock, 'location', location, 'source', source, 'reason', reason, 'data', data
  )
end
