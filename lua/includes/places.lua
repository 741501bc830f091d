-- @include change_stock
-- @include take_delta

-- A SKU's location with what was said of it, the same one each time it is asked for.
local function place_of(command, stock, name, kind)
  stock.places = stock.places or {}
  local place = stock.places[name]
  if not place then
    place = load_facts(command, stock.sku, load_location(stock.locations_key, name, kind))
    stock.places[name] = place
  end
  return place
end

local function stock_of(command, sku, balances)
  return {
    sku = sku, balances = balances, sku_key = command.prefix .. 'sku:' .. sku,
    holds_key = command.prefix .. 'holds:' .. sku, locations_key = command.prefix .. 'locations:' .. sku,
  }
end

-- Why a location cannot change by so much, or nil. Facts may leave less than nothing: what left had not arrived yet.
local function fact_refusal(stock, place, change)
  if place.is_new and select(2, load_locations(place.key)) >= LOCATIONS_MAX then
    return 'too_many_locations'
  end
  local on_hand = place.is_shared and tonumber(stock.balances.on_hand) or 0
  local most = math.max(math.abs(place.on_hand + change), math.abs(on_hand + change))
  return most > ON_HAND_MAX and 'above_limit' or nil
end

-- Units that left count anew where they left from, or no longer: what that makes of the locations, to be written.
local function plan_corrections(command, stock, changes)
  local plan = { on_hand_change = 0 }
  for i, each in ipairs(changes) do
    local departure = each.departure
    local place = place_of(command, stock, departure.location, 'shared')
    local change = amend_delta(place.facts, {
      occurred_us = departure.occurred_us, system = departure.system, counter = departure.counter, of = departure.of,
    }, -each.change)
    plan[i] = { place = place, change = change, departure = departure }
    plan.on_hand_change = plan.on_hand_change + (place.is_shared and change or 0)
  end
  return plan
end

-- Stores what a channel has of a SKU, reserved and committed.
local function store_promised(sku_key, channel, units)
  if units > 0 then
    redis.call('HSET', sku_key, 'promised:' .. channel, decimal(units))
  else
    redis.call('HDEL', sku_key, 'promised:' .. channel)
  end
end

local function write_corrections(command, stock, plan)
  for _, each in ipairs(plan) do
    if each.change ~= 0 and not each.is_written then
      change_stock(command, stock, each.place, each.change, {
        kind = 'stock.corrected', source = each.departure.source, reason = 'order', details = '',
      })
    end
    store_facts(each.place.facts)
  end
end
