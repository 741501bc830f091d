-- Stores what a reservation command changed of a line's SKU.
local function store_balances(command, line, record)
  local balances, promised_field = line.balances, 'promised:' .. record.channel
  redis.call(
    'HSET', line.sku_key, 'reserved', balances.reserved, 'committed', balances.committed,
    'backordered', balances.backordered, 'sequence', balances.sequence, promised_field, balances.promised
  )
  if balances.promised == '0' then
    redis.call('HDEL', line.sku_key, promised_field)
  end
  if line.backordered ~= (line.backordered_before or 0) then
    -- @include backorders
    store_backorder(command, line, record.token)
    line.backordered_before = line.backordered
  end
  if balances.covered then
    -- @include backorders
    cover_oldest(command, line.sku, balances.covered)
    balances.covered = nil
  end
end
