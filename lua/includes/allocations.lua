-- @include locations

-- Where the units of a sold reservation are taken from: rows of sku TAB location TAB quantity in the record's
-- `allocations`, in the order they were decided. Each counts in its location's `allocated`; loading proves the types
-- of the keys that are so counted in.
local function load_allocations(command, record)
  local allocations, text = {}, redis.call('HGET', record.key, 'allocations') or ''
  for sku, location, quantity in text:gmatch('([^\t\n]+)\t([^\t\n]+)\t(%d+)') do
    redis.call('HLEN', command.prefix .. 'locations:' .. sku)
    allocations[#allocations + 1] = { sku = sku, location = location, quantity = tonumber(quantity) }
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

-- Changes what is allocated of a SKU at a location.
local function store_allocated(command, sku, location, change)
  local key, field = command.prefix .. 'locations:' .. sku, 'allocated\t' .. location
  if redis.call('HINCRBY', key, field, decimal(change)) == 0 then
    redis.call('HDEL', key, field)
  end
end

-- Takes from the allocations, the last first, what the lines no longer hold.
local function trim_allocations(command, record, allocations, lines)
  local left = {}
  for _, line in ipairs(lines) do
    left[line.sku] = line.quantity
  end
  for _, each in ipairs(allocations) do
    local kept = math.min(each.quantity, left[each.sku] or 0)
    left[each.sku] = (left[each.sku] or 0) - kept
    if kept < each.quantity then
      store_allocated(command, each.sku, each.location, kept - each.quantity)
      each.quantity = kept
    end
  end
  store_allocations(record, allocations)
end
