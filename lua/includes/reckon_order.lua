-- @include orders

local function cumulative(line)
  local units = {}
  for _, departure in ipairs(line.departures) do
    local stream = departure.source .. '\t' .. departure.is_ship
    units[stream] = (units[stream] or 0) + departure.quantity
  end
  local most = 0
  for _, each in pairs(units) do
    most = math.max(most, each)
  end
  return most
end

-- Units that left, as far as they are known as sold, if that is known; and how many are beyond.
local function shipped_of(line)
  local left, sold = cumulative(line), told(line, 'sold')
  local shipped = sold > 0 and math.min(left, sold) or left
  return shipped, left - shipped
end

-- Units sold, by whatever word of it came, and not taken back.
local function wanted_of(line, shipped)
  return math.max(told(line, 'sold'), told(line, 'picked'), told(line, 'packed'), shipped) - told(line, 'cancelled')
end

-- Who is believed first about the same units, and in which order they left.
local function leaves_before(one, other)
  if one.priority ~= other.priority then
    return one.priority > other.priority
  elseif one.source ~= other.source then
    return is_before(one.source, other.source)
  elseif one.is_ship ~= other.is_ship then
    return one.is_ship == '0' -- what the source itself deducts on
  elseif one.occurred_us ~= other.occurred_us then
    return one.occurred_us < other.occurred_us
  elseif one.system ~= other.system then
    return is_before(one.system, other.system)
  elseif one.counter ~= other.counter then
    return one.counter < other.counter
  end
  return is_before(one.of, other.of)
end

-- Gives every departure the units of it that count. Returns those that changed, as { departure, change }.
local function share_departures(line, shipped)
  local sorted, changes = {}, {}
  for i, departure in ipairs(line.departures) do
    sorted[i] = departure
  end
  table.sort(sorted, leaves_before)
  local level, so_far, stream = 0, 0, nil -- units that better sources told of; units of this one
  for _, departure in ipairs(sorted) do
    local of = departure.source .. '\t' .. departure.is_ship
    if of ~= stream then
      level, so_far, stream = math.max(level, math.min(so_far, shipped)), 0, of
    end
    local before = so_far
    so_far = so_far + departure.quantity
    local effective = math.max(0, math.min(so_far, shipped) - math.max(before, level))
    if effective ~= departure.effective then
      changes[#changes + 1] = { departure = departure, change = effective - departure.effective }
      departure.effective = effective
    end
  end
  return changes
end

-- An order's line as it stands, to be told news.
local function open_line(order, sku)
  local line = order_line(order, sku)
  if not line.part then
    line.shipped = shipped_of(line)
    line.part = math.max(0, wanted_of(line, line.shipped) - line.shipped)
  end
  return line
end

-- What a line is after the news: returns by how much more is committed, and which departures changed.
local function reckon(order, line)
  local shipped, beyond = shipped_of(line)
  local part = math.max(0, wanted_of(line, shipped) - shipped)
  local part_change = part - line.part
  order.open, order.shipped = order.open + part_change, order.shipped + shipped - line.shipped
  line.part, line.shipped, line.beyond = part, shipped, beyond
  return part_change, share_departures(line, shipped)
end
