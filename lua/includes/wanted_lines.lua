-- @include integer

-- Reads sku, quantity pairs from ARGV[from] on into sku -> quantity; nil when there are none, which means all.
local function wanted_quantities(argv, from)
  if #argv < from then
    return nil
  end
  local wanted = {}
  for i = from, #argv, 2 do
    local quantity = integer(argv[i + 1], 'quantity', 1)
    if wanted[argv[i]] then
      return error(redis.error_reply('BADARG a SKU comes twice'))
    end
    wanted[argv[i]] = quantity
  end
  return wanted
end

-- Do the lines hold all that is wanted?
local function covers(lines, wanted)
  local held = {}
  for _, line in ipairs(lines) do
    held[line.sku] = line.quantity
  end
  for sku, quantity in pairs(wanted or {}) do
    if not held[sku] or held[sku] < quantity then
      return false
    end
  end
  return true
end

-- Is exactly this wanted, no more and no less?
local function equals(lines, wanted)
  for _, line in ipairs(lines) do
    if (wanted[line.sku] or 0) ~= line.quantity then
      return false
    end
  end
  return covers(lines, wanted)
end
