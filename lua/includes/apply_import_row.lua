-- @include import_row
-- @include change_policy
-- @include close_shortfall

-- Would counting withhold more or less than is withheld now?
local function is_withheld_anew(stock, location)
  local policy = redis.call('HMGET', stock.sku_key, 'safety_stock_units', 'safety_stock_basis_points')
  local balances = stock.balances
  return location.is_shared
    and balances.safety_stock ~= safety_stock_of(balances.on_hand, policy[1] or 0, policy[2] or 0)
end

-- Writes what the row changes, its policy and its count a command each; false when all is so already. The second value
-- is what the count voided, see includes/close_shortfall.lua.
local function apply_row(command, stock, row, location, change, reason)
  local has_changed, voids = false, { is_closed = true }
  if changes_policy(stock, row) then
    begin_entries(command)
    change_policy(command, stock, row.policy, row.details)
    end_command(command)
    has_changed = true
  end
  if location and (change ~= 0 or location.is_new or is_withheld_anew(stock, location)) then
    voids = choose_voids(command, stock.sku, stock.balances, location.is_shared and change or 0)
    begin_entries(command)
    change_stock(command, stock, location, change, {
      kind = 'stock.adjusted', is_count = true, source = 'operator', reason = reason, details = '',
    })
    write_voids(command, voids)
    end_command(command)
    has_changed = true
  end
  return has_changed, voids
end
