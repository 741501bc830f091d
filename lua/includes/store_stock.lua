-- Stores what a command on a SKU changed of its quantities.
local function store_stock(command, sku, sku_key, balances)
  redis.call(
    'HSET', sku_key, 'on_hand', balances.on_hand, 'reserved', balances.reserved, 'committed', balances.committed,
    'backordered', balances.backordered, 'safety_stock', balances.safety_stock, 'sequence', balances.sequence
  )
  if balances.covered then
    -- @include backorders
    cover_oldest(command, sku, balances.covered)
    balances.covered = nil
  end
end
