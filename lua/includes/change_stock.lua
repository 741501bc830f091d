-- @include append_stock_entry
-- @include locations
-- @include safety_stock
-- @include store_stock
local ON_HAND_MAX = 1000000000000

-- Why a location cannot change by so much, or nil.
local function change_refusal(stock, location, change)
  if location.is_new and select(2, load_locations(location.key)) >= LOCATIONS_MAX then
    return 'too_many_locations'
  elseif location.on_hand + change < 0 and change < 0 then
    return 'stock_below_zero'
  end
  local on_hand = math.max(location.on_hand, location.is_shared and tonumber(stock.balances.on_hand) or 0)
  return on_hand + change > ON_HAND_MAX and 'above_limit' or nil
end

-- What a SKU that nobody told of yet starts from.
local function no_balances()
  return {
    on_hand = '0', reserved = '0', committed = '0', backordered = '0', safety_stock = '0', low_stock_threshold = '5',
  }
end

-- Changes what is on hand at a location, and what is withheld of it when stock arrives or is counted.
local function change_stock(command, stock, location, change, entry)
  local balances = stock.balances
  location.on_hand = location.on_hand + change
  if location.is_shared then
    local on_hand = balances.on_hand + change
    balances.on_hand = decimal(on_hand)
    local does_arrive = change > 0 and entry.kind ~= 'stock.transferred' and entry.kind ~= 'stock.corrected'
    if entry.is_count or does_arrive then
      local policy = redis.call('HMGET', stock.sku_key, 'safety_stock_units', 'safety_stock_basis_points')
      balances.safety_stock = safety_stock_of(on_hand, policy[1] or 0, policy[2] or 0)
    end
  end
  append_stock_entry(
    command, entry.kind, stock.sku, balances, decimal(change), location, entry.source, entry.reason, entry.details
  )
  store_stock(command, stock.sku, stock.sku_key, balances)
  store_location(location)
end
