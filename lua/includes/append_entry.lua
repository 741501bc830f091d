-- @include balances

-- Ledger entries. The stream ID is the sequence, so an entry that would leave a gap or repeat a number fails; the
-- append comes first among the writes of its command and so also proves the type of the ledger's key before anything
-- is stored. All entries of a command carry its id: the sequence of its first entry. Each of the two shapes always
-- has the same fields in the same order, which lets the stream store their names once a node.
local function begin_entries(command)
  command.id = nil
end

-- Units that arrive or come back first cover what was promised beyond stock. How many is a matter of the balances
-- alone, and so part of the entry that frees them; whose promise is covered is noted when the SKU is stored.
local function cover_backorders(balances)
  local covered = math.min(balances.backordered, math.max(0, available_of(balances)))
  balances.backordered = decimal(balances.backordered - covered)
  balances.covered = (balances.covered or 0) + covered
end

local function next_sequence(command, balances)
  if balances.backordered ~= '0' then
    cover_backorders(balances)
  end
  command.sequence = command.sequence + 1
  balances.sequence, balances.available = decimal(command.sequence), shown_available(balances)
  command.id = command.id or balances.sequence
end

local function append_reservation_entry(command, kind, record, line, quantity, reason, data)
  local balances = line.balances
  next_sequence(command, balances)
  redis.call(
    'XADD', command.ledger_key, balances.sequence .. '-0',
    'type', kind, 'at_us', command.now, 'command', command.id, 'sku', line.sku, 'quantity', quantity,
    'on_hand', balances.on_hand, 'reserved', balances.reserved, 'committed', balances.committed,
    'backordered', balances.backordered, 'available', balances.available,
    'token', record.token, 'agent', record.agent, 'channel', record.channel, 'expires_us', record.expires,
    'reason', reason, 'data', data
  )
end
