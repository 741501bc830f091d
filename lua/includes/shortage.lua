-- @include balances
-- @include backorders
-- @include next_release

-- Promises what is missing of a line beyond stock, where the caller allows it and the SKU has so much left. Otherwise
-- returns what a refusal tells of it, and what would help: sku TAB requested TAB backorder left TAB next release in us
-- (0 for none) TAB what would be available if every hold ended TAB next restock date TAB substitutes as JSON, the last
-- two empty where none are known.
local function shortage(command, line, token, missing, allow_backorder)
  local backorder_left = backorder_left_of(command, line.sku, line.balances, token)
  if allow_backorder and missing <= backorder_left then
    line.backordered = missing
    return nil
  end
  local policy = redis.call('HMGET', line.sku_key, 'next_restock_date', 'substitutes')
  local releasable = math.max(0, available_of(line.balances) + line.balances.reserved)
  return table.concat({
    line.sku, decimal(line.quantity), decimal(backorder_left), next_release(command, line.holds_key),
    decimal(releasable), policy[1] or '', policy[2] or '',
  }, '\t')
end
