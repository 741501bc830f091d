-- @include append_entry

-- What of a sale is to be taken from a location: the difference to what was decided before.
local function append_allocation_entry(command, record, line, location, change, data)
  local balances = line.balances
  next_sequence(command, balances)
  redis.call(
    'XADD', command.ledger_key, balances.sequence .. '-0',
    'type', 'stock.allocated', 'at_us', command.now, 'command', command.id, 'sku', line.sku,
    'quantity', decimal(change), 'on_hand', balances.on_hand, 'reserved', balances.reserved,
    'committed', balances.committed, 'backordered', balances.backordered, 'available', balances.available,
    'token', record.token, 'agent', record.agent, 'channel', record.channel, 'expires_us', record.expires,
    'location', location, 'reason', '', 'data', data
  )
end
