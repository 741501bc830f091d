-- @include decimal
-- @include reservation
-- @include facts

-- What is known of an order of a channel, whoever told it: the hash order:<channel> TAB <id>.
--
--   at_us            when something was last heard of it
--   tokens           the reservations sold into it, one a row; reservation_lines: how many lines they have
--   open, shipped    units that are sold and still to leave, and that have left; of all its SKUs in this partition
--   line TAB <sku>   rows of told TAB kind TAB reporter TAB units, and rows of left: see departure_row
--
-- Reporters (us, each source) tell cumulative numbers, of which the largest holds: what is heard twice counts once.
-- `left` are the units that left a location. Several may tell of the same units; then those of the source with the
-- higher priority count, and of the others what is beyond them. Nothing counts as shipped beyond what is known as sold.
local OURSELVES = 'lastunit'
local DEPARTURES_MAX = 64
local DAY_US = 86400 * 1000000
local ORDER_RETENTION_US = 30 * DAY_US -- by engine time, and no setting: the ledger is replayed by it

local function load_order(command, channel, id)
  local order = { key = command.prefix .. 'order:' .. channel .. '\t' .. id, channel = channel, id = id }
  order.lines, order.skus, order.losses = {}, {}, {}
  local fields = redis.call('HMGET', order.key, 'at_us', 'tokens', 'open', 'shipped', 'reservation_lines')
  order.is_forgotten = fields[1] and command.now_us - fields[1] > ORDER_RETENTION_US
  order.is_new = not fields[1] or order.is_forgotten
  if order.is_new then
    fields = {}
  end
  order.tokens, order.open, order.shipped = rows_of(fields[2]), tonumber(fields[3] or 0), tonumber(fields[4] or 0)
  order.reservation_lines = tonumber(fields[5] or 0)
  return order
end

local DEPARTURE = '^left\t(%d+)\t(%d+)\t(%d+)\t([01])\t(%d+)\t([^\t]*)\t(%d+)\t([^\t]*)\t([^\t]*)\t(.*)$'

local function parse_departure(row)
  local effective, quantity, priority, is_ship, occurred, system, counter, source, location, of = row:match(DEPARTURE)
  return {
    effective = tonumber(effective), quantity = tonumber(quantity), priority = tonumber(priority), is_ship = is_ship,
    occurred_us = tonumber(occurred), system = system, counter = tonumber(counter), source = source,
    location = location, of = of,
  }
end

local function departure_row(departure)
  return table.concat({
    'left', decimal(departure.effective), decimal(departure.quantity), decimal(departure.priority),
    departure.is_ship, decimal(departure.occurred_us), departure.system, decimal(departure.counter),
    departure.source, departure.location, departure.of,
  }, '\t')
end

local function order_line(order, sku)
  local line = order.lines[sku]
  if not line then
    line = { told = {}, departures = {} }
    for _, row in ipairs(rows_of(not order.is_new and redis.call('HGET', order.key, 'line\t' .. sku))) do
      local kind, reporter, units = row:match('^told\t(%a+)\t([^\t]*)\t(%d+)$')
      if kind then
        line.told[#line.told + 1] = { kind = kind, reporter = reporter, units = tonumber(units) }
      else
        line.departures[#line.departures + 1] = parse_departure(row)
      end
    end
    order.lines[sku] = line
    order.skus[#order.skus + 1] = sku
  end
  return line
end

-- The largest number that anybody told.
local function told(line, kind)
  local most = 0
  for _, each in ipairs(line.told) do
    most = each.kind == kind and math.max(most, each.units) or most
  end
  return most
end

local function tell(line, kind, reporter, units)
  for _, each in ipairs(line.told) do
    if each.kind == kind and each.reporter == reporter then
      each.units = each.units + units
      return
    end
  end
  line.told[#line.told + 1] = { kind = kind, reporter = reporter, units = units }
end

-- Stores an order. The engine drops it a day later than it is forgotten.
local function store_order(command, order)
  if order.is_forgotten then
    redis.call('DEL', order.key)
  end
  redis.call(
    'HSET', order.key, 'at_us', command.now, 'open', decimal(order.open), 'shipped', decimal(order.shipped)
  )
  if #order.tokens > 0 then
    redis.call(
      'HSET', order.key, 'tokens', table.concat(order.tokens, '\n'),
      'reservation_lines', decimal(order.reservation_lines)
    )
  end
  for _, sku in ipairs(order.skus) do
    local line, rows = order.lines[sku], {}
    for _, each in ipairs(line.told) do
      rows[#rows + 1] = 'told\t' .. each.kind .. '\t' .. each.reporter .. '\t' .. decimal(each.units)
    end
    for _, departure in ipairs(line.departures) do
      rows[#rows + 1] = departure_row(departure)
    end
    if #rows > 0 then
      redis.call('HSET', order.key, 'line\t' .. sku, table.concat(rows, '\n'))
    end
  end
  redis.call('PEXPIRE', order.key, decimal(ORDER_KEPT_MS))
end
