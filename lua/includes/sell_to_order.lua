-- @include places
-- @include follow_order

local function tell_ourselves(news, line, kind, units)
  local told_line = open_line(news.order, line.sku)
  tell(told_line, kind, OURSELVES, units)
  local part_change, changes = reckon(news.order, told_line)
  news.changes[#news.changes + 1] = { sku = line.sku, changes = changes }
  return part_change
end

-- Sells `quantity` units of a line: as many become committed as the order did not have already, and those that it has
-- taken back until the reservation loses them.
local function sell_to_order(news, line, quantity)
  local balances, part_change = line.balances, tell_ourselves(news, line, 'sold', quantity)
  news.own.units[line.sku] = quantity
  local change = part_change + plan_losses(news.order, news.records, line.sku)
  balances.reserved = decimal(balances.reserved - quantity)
  balances.committed = decimal(balances.committed + change)
  balances.promised = decimal(balances.promised + change - quantity)
end

-- How many units of a line can still be taken back: none that have left.
local function unshipped(news, line)
  return math.min(line.quantity, open_line(news.order, line.sku).part)
end

-- Takes units back that are in the order still, whoever told of others before.
local function cancel_of_order(news, line, quantity)
  local told_line, ours = open_line(news.order, line.sku), 0
  for _, each in ipairs(told_line.told) do
    ours = each.kind == 'cancelled' and each.reporter == OURSELVES and each.units or ours
  end
  tell_ourselves(news, line, 'cancelled', told(told_line, 'cancelled') + quantity - ours)
end

-- Writes the order, what that makes of locations, and what it makes of the reservations. Returns the record anew.
local function close_order(command, news)
  store_order_of(command, news.order, news.record)
  for _, each in ipairs(news.changes) do
    if #each.changes > 0 then
      local stock = stock_of(command, each.sku, load_balances(command.prefix .. 'sku:' .. each.sku, ''))
      write_corrections(command, stock, plan_corrections(command, stock, each.changes))
    end
  end
  follow_order(command, news.order, news.records)
  return load_reservation(command, news.record.key, news.record.token)
end

-- What we sell, or take back, of a reservation whose order is known is news of that order like any source's. Made only
-- where there is one: the news carry what is done with them.
local function open_order(command, record, order_id, lines)
  local order = order_of_reservation(command, record, order_id)
  for _, line in ipairs(lines) do
    redis.call('HLEN', command.prefix .. 'facts:' .. line.sku)
    redis.call('HLEN', command.prefix .. 'locations:' .. line.sku)
    open_line(order, line.sku)
  end
  local news = {
    order = order, record = record, records = followers(command, order), changes = {},
    sell = sell_to_order, unshipped = unshipped, cancel = cancel_of_order, close = close_order,
  }
  for _, each in ipairs(news.records) do
    news.own = each.token == record.token and each or news.own
  end
  return news
end
