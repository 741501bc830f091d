-- @include update_lines
-- @include places
-- @include follow_order
-- @include close_shortfall

-- A line that is about an order: sold, picked, packed, shipped, cancelled, as far as its source has come with it.
local ORDER_ENTRY = {
  sale = 'stock.sale', pick = 'stock.picked', pack = 'stock.packed', ship = 'stock.shipped',
  cancel = 'stock.cancelled',
}
local TOLD = { sale = 'sold', pick = 'picked', pack = 'packed', cancel = 'cancelled' }

-- The order that a line names, with the reservation that it names by its token; nil where there is no such one, or not
-- of this SKU.
local function order_of_line(command, delivery, line)
  if line.reference_kind == 'token' then
    local record = load_reservation(command, command.prefix .. 'reservation:' .. line.reference, line.reference)
    local is_its = record and ('\n' .. record.lines):find('\n' .. line.sku .. '\t', 1, true)
    return is_its and order_of_reservation(command, record, ''), record
  elseif line.reference_kind == '' and line.kind ~= 'sale' then
    return nil, nil
  end
  local id = line.reference_kind == 'order' and line.reference or '\t' .. delta_of(delivery, line, 0).of
  return load_order(command, line.channel, id), nil
end

-- What a person should look at.
local function review_of(told_line)
  local sold, cancelled = told(told_line, 'sold'), told(told_line, 'cancelled')
  local moved = math.max(told(told_line, 'picked'), told(told_line, 'packed'), told_line.shipped)
  if told_line.beyond > 0 then
    return 'shipped_beyond_sold'
  end
  return sold > 0 and cancelled > 0 and moved > math.max(0, sold - cancelled) and 'moved_though_cancelled' or ''
end

-- Does anybody tell of more units than there can be?
local function is_above_limit(told_line, committed)
  for _, each in ipairs(told_line.told) do
    if each.units > ON_HAND_MAX then
      return true
    end
  end
  return committed > ON_HAND_MAX
end

-- Tells the order; returns its line, how much more is committed, and the corrections, the line's own first.
local function plan_order_event(command, delivery, stock, line, order)
  local told_line = open_line(order, stock.sku)
  local own
  if TOLD[line.kind] then
    tell(told_line, TOLD[line.kind], delivery.source, line.quantity)
  end
  if line.kind == 'ship' or line.kind == delivery.deduct_on then
    own = delta_of(delivery, line, line.quantity)
    own.effective, own.priority, own.source = 0, delivery.priority, delivery.source
    own.is_ship, own.location = line.kind == 'ship' and '1' or '0', line.location
    told_line.departures[#told_line.departures + 1] = own
    place_of(command, stock, line.location, line.location_kind)
  end
  local part_change, changes = reckon(order, told_line)
  local plan = plan_corrections(command, stock, changes)
  plan.own_change = 0
  for _, each in ipairs(plan) do
    if each.departure == own then
      each.is_written, plan.own_change = true, each.change
    end
  end
  return told_line, part_change, plan, own
end

local function apply_order_event(command, delivery, stock, line)
  local nothing = { is_closed = true }
  local order, record = order_of_line(command, delivery, line)
  if not order then
    return 'unknown_reference', nothing
  elseif #open_line(order, stock.sku).departures >= DEPARTURES_MAX then
    return 'too_many_events', nothing
  end
  local told_line, part_change, plan, own = plan_order_event(command, delivery, stock, line, order)
  local place = own and stock.places[line.location]
  local refusal = place and fact_refusal(stock, place, plan.own_change)
  if refusal or is_above_limit(told_line, stock.balances.committed + part_change) then
    return refusal or 'above_limit', nothing
  end
  local records, balances = followers(command, order), stock.balances
  balances.committed = decimal(balances.committed + part_change)
  local lost, uncovered = plan_losses(order, records, stock.sku) -- the promises beyond stock go with them
  local voids = choose_voids(command, stock.sku, balances, plan.on_hand_change - uncovered)
  balances.committed = decimal(balances.committed + lost)
  local of_channel = tonumber(redis.call('HGET', stock.sku_key, 'promised:' .. order.channel) or 0) + part_change + lost

  begin_entries(command)
  local kind, review = ORDER_ENTRY[line.kind], review_of(told_line)
  if place then
    change_stock(command, stock, place, plan.own_change, {
      kind = kind, source = delivery.source, reason = review, details = line.details,
    })
  else
    append_stock_entry(
      command, kind, stock.sku, balances, decimal(line.quantity), nil, delivery.source, review, line.details
    )
    store_stock(command, stock.sku, stock.sku_key, balances)
  end
  store_promised(stock.sku_key, order.channel, of_channel)
  write_corrections(command, stock, plan)
  if record then
    store_order_of(command, order, record)
  else
    store_order(command, order)
  end
  follow_order(command, order, records)
  write_voids(command, voids)
  return 'applied', voids
end
