-- @include balances
-- @include next_release

-- What a refusal tells of a line that is short, and what would help: sku TAB requested TAB backorder left TAB next
-- release in us (0 for none) TAB what would be available if every hold ended TAB next restock date TAB substitutes as
-- JSON, the last two empty where none are known.
local function shortage_row(command, line, backorder_left)
  local policy = redis.call('HMGET', line.sku_key, 'next_restock_date', 'substitutes')
  local releasable = math.max(0, available_of(line.balances) + line.balances.reserved)
  return table.concat({
    line.sku, decimal(line.quantity), decimal(backorder_left), next_release(command, line.holds_key),
    decimal(releasable), policy[1] or '', policy[2] or '',
  }, '\t')
end
