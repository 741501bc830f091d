-- @include locations
-- @include append_allocation_entry
-- @include store_balances

-- Where the units of a sold reservation are taken from: rows of sku TAB location TAB quantity in the record's
-- `allocations`, in the order they were decided. Each counts in its location's `allocated`; loading proves the types
-- of the keys that are so counted in, and that `lines` are what the reservation sold.
local ALLOCATIONS_MAX = 200

local function load_allocations(command, record, lines)
  local allocations, line_of, text = {}, {}, redis.call('HGET', record.key, 'allocations') or ''
  for _, line in ipairs(lines) do
    line_of[line.sku] = line
  end
  for sku, location, quantity in text:gmatch('([^\t\n]+)\t([^\t\n]+)\t(%d+)') do
    redis.call('HLEN', command.prefix .. 'locations:' .. sku)
    if not line_of[sku] then
      return error(redis.error_reply('INVARIANT units are allocated of what the reservation did not sell'))
    end
    allocations[#allocations + 1] = {
      line = line_of[sku], sku = sku, location = location, quantity = tonumber(quantity),
    }
  end
  return allocations
end

local function store_allocations(record, allocations)
  local rows = {}
  for _, each in ipairs(allocations) do
    if each.quantity > 0 then
      rows[#rows + 1] = each.sku .. '\t' .. each.location .. '\t' .. decimal(each.quantity)
    end
  end
  if #rows > 0 then
    redis.call('HSET', record.key, 'allocations', table.concat(rows, '\n'))
  else
    redis.call('HDEL', record.key, 'allocations')
  end
end

-- Changes what is allocated of a line at a location, with an entry that says so.
local function change_allocated(command, record, line, location, change, details)
  append_allocation_entry(command, record, line, location, change, details)
  store_balances(command, line, record)
  local key, field = command.prefix .. 'locations:' .. line.sku, 'allocated\t' .. location
  if redis.call('HINCRBY', key, field, decimal(change)) == 0 then
    redis.call('HDEL', key, field)
  end
end

-- Takes from the allocations, the last first, what the lines no longer hold.
local function trim_allocations(command, record, allocations, lines, details)
  local left = {}
  for _, line in ipairs(lines) do
    left[line.sku] = line.quantity
  end
  for _, each in ipairs(allocations) do
    local kept = math.min(each.quantity, left[each.sku])
    left[each.sku] = left[each.sku] - kept
    if kept < each.quantity then
      change_allocated(command, record, each.line, each.location, kept - each.quantity, details)
      each.quantity = kept
    end
  end
  store_allocations(record, allocations)
end
