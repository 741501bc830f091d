-- @include integer

-- Reads what to hold from ARGV[from] on: sku, quantity pairs, each with its two keys from KEYS[5] on.
local function hold_lines(keys, argv, from)
  local lines, is_named, is_repeated = {}, {}, false
  for i = from, #argv, 2 do
    local sku, quantity, key = argv[i], integer(argv[i + 1], 'quantity', 1), 5 + i - from
    lines[#lines + 1] = {
      sku = sku, quantity = quantity, backordered = 0, sku_key = keys[key], holds_key = keys[key + 1],
    }
    is_repeated, is_named[sku] = is_repeated or is_named[sku], true
  end
  if #lines == 0 or #lines > 100 or #keys ~= 4 + 2 * #lines or is_repeated then
    return error(redis.error_reply('BADARG 1 to 100 lines, each with two keys, each SKU once'))
  end
  return lines
end
