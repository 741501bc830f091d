-- @include integer
-- @include facts
-- @include change_stock
local UPDATE_LINES_MAX = 50
local CLOCK_SYSTEMS_MAX = 16
local UPDATE_LINE = '^' .. ('([^%c]*)\t'):rep(11) .. '([^\t]*)\t' .. ('([^%c]*)\t'):rep(3) .. '([^%c]*)$'

-- Of how few units each kind of line may be.
local UNITS_MIN = {
  receive = 1, ['return'] = 1, adjust = -ON_HAND_MAX, count = 0, transfer = 1, sale = 1, pick = 1, pack = 1, ship = 1,
  cancel = 1, observe = 0,
}
local DEDUCTS_ON = { sale = true, pick = true, pack = true, ship = true }

local function expect_line(is_so, what)
  if not is_so then
    error(redis.error_reply('BADARG ' .. what))
  end
end

-- A clock as counts keep it; it comes as system LF counter LF ..., the systems in order, the line's own among them.
local function parse_line_clock(text, own_system, own_counter)
  if text == own_system .. '\n' .. decimal(own_counter) and own_system ~= '' then
    return own_system .. '\t' .. decimal(own_counter)
  end
  local count, last, has_own = 0, nil, false
  local rest = (text .. '\n'):gsub('([^%c]+)\n(%d+)\n', function(system, digits)
    expect_line(not last or is_before(last, system), 'the systems of a clock come in order, each once')
    local counter = integer(digits, 'a clock')
    has_own = has_own or system == own_system and counter == own_counter
    count, last = count + 1, system
    return ''
  end)
  expect_line(rest == '' and count <= CLOCK_SYSTEMS_MAX, 'a clock has 1 to 16 rows of system and counter')
  expect_line(has_own, 'the clock of a line has its own system')
  return (text:gsub('\n', '\t'))
end

local function expect_whole_line(line, delivery_id)
  local is_named = line.sku ~= '' and line.location ~= '' and line.details ~= ''
  local is_kind = line.location_kind == 'shared' or line.location_kind == 'dedicated'
  if line.kind == 'transfer' then
    is_named = is_named and line.to_location ~= ''
    is_kind = is_kind and (line.to_location_kind == 'shared' or line.to_location_kind == 'dedicated')
  end
  expect_line(is_named and is_kind, 'a line names its SKU and locations, each shared or dedicated')
  local is_of_order = line.reference_kind == 'order' or line.reference_kind == 'token'
  local is_reference = is_of_order == (line.reference ~= '') and (is_of_order or line.reference_kind == '')
  expect_line(is_reference and line.channel ~= '', 'a line names a channel, and an order there, a token or neither')
  local is_again = line.kind == 'count' or line.kind == 'observe'
  expect_line(delivery_id ~= '' or is_again, 'only what may come again comes without the id of a delivery')
end

-- The lines of a delivery, from ARGV[at] on; each with the keys of its SKU.
local function parse_update_lines(keys, first_key, args, at, delivery_id)
  local count = #args - at + 1
  local is_paired = #keys == first_key - 1 + 3 * count
  expect_line(count >= 1 and count <= UPDATE_LINES_MAX and is_paired, '1 to 50 lines, three keys each')
  local lines = {}
  for i = at, #args do
    local number, kind, sku, location, location_kind, to_location, to_location_kind, quantity, occurred, system,
      counter, clock, channel, reference_kind, reference, details = args[i]:match(UPDATE_LINE)
    expect_line(UNITS_MIN[kind], 'a line has 16 fields, the second of them its kind')
    local is_negative, key = quantity:sub(1, 1) == '-', first_key + 3 * #lines
    local units = integer(is_negative and quantity:sub(2) or quantity, 'quantity', 0, ON_HAND_MAX)
    local line = {
      number = decimal(integer(number, 'number')), kind = kind, sku = sku, location = location,
      location_kind = location_kind, to_location = to_location, to_location_kind = to_location_kind,
      quantity = is_negative and -units or units, occurred_us = integer(occurred, 'occurred_us'), system = system,
      counter = integer(counter, 'counter'), channel = channel, reference_kind = reference_kind,
      reference = reference, details = details, sku_key = keys[key], holds_key = keys[key + 1],
      locations_key = keys[key + 2],
    }
    expect_line(line.quantity >= UNITS_MIN[kind], 'so few units are none')
    line.clock = parse_line_clock(clock, system, line.counter)
    expect_whole_line(line, delivery_id)
    lines[#lines + 1] = line
  end
  return lines
end

-- A line as a change of a location: by so many units, at the time and by the clock of the line.
local function delta_of(delivery, line, quantity)
  return {
    quantity = quantity, occurred_us = line.occurred_us, system = line.system, counter = line.counter,
    of = delivery.source .. ':' .. delivery.id .. '#' .. line.number,
  }
end

local function count_of(delivery, line)
  local row = table.concat({
    decimal(line.quantity), delivery.priority, decimal(line.occurred_us), delivery.source, line.clock,
  }, '\t')
  return parse_count(row)
end
