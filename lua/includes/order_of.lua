-- @include reservation
-- @include reckon_order

local ORDER_LINES_MAX = 100 -- of the reservations sold into it: all of them follow it in one command

local function is_in(order, token)
  for _, each in ipairs(order.tokens) do
    if each == token then
      return true
    end
  end
  return false
end

local function add_reservation(order, record)
  order.tokens[#order.tokens + 1] = record.token
  order.reservation_lines = order.reservation_lines + #parse_lines(record.lines)
end

-- What we sold to a reservation before its order was heard of is in the balances already.
local function attach(order, record)
  add_reservation(order, record)
  local kept = {}
  if record.status == 'committed' then
    for _, line in ipairs(parse_lines(record.remaining_lines)) do
      kept[line.sku] = line.quantity
    end
  end
  if record.status == 'committed' or record.status == 'cancelled' then
    for _, sold in ipairs(parse_lines(record.committed_lines)) do
      local line = order_line(order, sold.sku)
      tell(line, 'sold', OURSELVES, sold.quantity)
      tell(line, 'cancelled', OURSELVES, sold.quantity - (kept[sold.sku] or 0))
      order.open = order.open + open_line(order, sold.sku).part
    end
  end
end

local function order_skus(order)
  local skus = {}
  for _, field in ipairs(order.is_new and {} or redis.call('HKEYS', order.key)) do
    skus[#skus + 1] = field:match('^line\t(.*)$')
  end
  return skus
end

-- What was said of a reservation by its token before its order had a name belongs to the named one.
local function merge_order(order, other)
  for _, sku in ipairs(order_skus(other)) do
    local line, from = open_line(order, sku), open_line(other, sku)
    for _, each in ipairs(from.told) do
      tell(line, each.kind, each.reporter, each.units)
    end
    for _, departure in ipairs(from.departures) do
      line.departures[#line.departures + 1] = departure
    end
    line.part, line.shipped = line.part + from.part, line.shipped + from.shipped -- in the balances already
  end
  order.open, order.shipped, order.merged_key = order.open + other.open, order.shipped + other.shipped, other.key
  if order.is_new then
    order.tokens, order.reservation_lines = other.tokens, other.reservation_lines
  end
end

-- The order that a reservation is sold into, with the reservation in it: the one that it names, as long as all can
-- follow it; else one of its own, named by its token.
local function order_of_reservation(command, record, order_id)
  local id = order_id ~= '' and order_id or record.order_id ~= '' and record.order_id or record.token
  local order = load_order(command, record.channel, id)
  local lines = order.reservation_lines + #parse_lines(record.lines)
  if lines > ORDER_LINES_MAX and not is_in(order, record.token) then
    order = load_order(command, record.channel, record.token)
  elseif record.has_order and id ~= record.token then
    merge_order(order, load_order(command, record.channel, record.token))
  end
  if not is_in(order, record.token) then
    if record.is_live then
      add_reservation(order, record)
    else
      attach(order, record)
    end
  end
  return order
end

-- Stores the order, and that the reservation has one.
local function store_order_of(command, order, record)
  store_order(command, order)
  if order.merged_key then
    redis.call('DEL', order.merged_key)
  end
  if order.id == record.token then
    redis.call('HSET', record.key, 'has_order', '1')
  elseif record.has_order then
    redis.call('HDEL', record.key, 'has_order')
  end
end
