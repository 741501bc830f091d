-- @include update_lines
-- @include places
-- @include take_count
-- @include close_shortfall

-- A line that is about a location and no order. Returns what became of it, and what was voided.
local STOCK_ENTRY = {
  receive = 'stock.received', ['return'] = 'stock.returned', adjust = 'stock.adjusted', count = 'stock.counted',
  transfer = 'stock.transferred', ship = 'stock.shipped', sale = 'stock.sale', observe = 'stock.observed',
}

-- The places that a line changes, each with by how much; nil where it says nothing new.
local function plan_fact(command, delivery, stock, line)
  local place = place_of(command, stock, line.location, line.location_kind)
  if line.kind == 'observe' then
    return {}
  elseif line.kind == 'count' then
    local on_hand = take_count(place.facts, count_of(delivery, line), place.on_hand)
    return on_hand and { { place = place, change = on_hand - place.on_hand } }
  end
  local is_out = line.kind == 'transfer' or line.kind == 'ship' or line.kind == 'sale'
  local quantity = is_out and -line.quantity or line.quantity
  local plan = { { place = place, change = take_delta(place.facts, delta_of(delivery, line, quantity)) } }
  if line.kind == 'transfer' then
    local to = place_of(command, stock, line.to_location, line.to_location_kind)
    plan[2] = { place = to, change = take_delta(to.facts, delta_of(delivery, line, -quantity)) }
  end
  return plan
end

local function apply_fact(command, delivery, stock, line)
  local plan = plan_fact(command, delivery, stock, line)
  if not plan then
    return 'stale', { is_closed = true }
  end
  local on_hand_change = 0
  for _, each in ipairs(plan) do
    local refusal = fact_refusal(stock, each.place, each.change)
    if refusal then
      return refusal, { is_closed = true }
    end
    on_hand_change = on_hand_change + (each.place.is_shared and each.change or 0)
  end
  local voids = choose_voids(command, stock.sku, stock.balances, on_hand_change)
  begin_entries(command)
  for _, each in ipairs(plan) do
    change_stock(command, stock, each.place, each.change, {
      kind = STOCK_ENTRY[line.kind], is_count = line.kind == 'count', source = delivery.source, reason = '',
      details = line.details,
    })
    store_facts(each.place.facts)
  end
  if #plan == 0 then
    append_stock_entry(
      command, 'stock.observed', stock.sku, stock.balances, decimal(line.quantity), nil, delivery.source, '',
      line.details
    )
    store_stock(command, stock.sku, stock.sku_key, stock.balances)
  end
  write_voids(command, voids)
  return 'applied', voids
end
