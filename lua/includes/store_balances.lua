-- Stores what a reservation command changed of a line's SKU.
local function store_balances(line)
  local balances = line.balances
  redis.call(
    'HSET', line.sku_key, 'reserved', balances.reserved, 'committed', balances.committed,
    'backordered', balances.backordered, 'sequence', balances.sequence
  )
end
