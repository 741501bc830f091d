-- @include places
-- @include take_count
-- @include close_shortfall

-- The locations of a SKU that somebody counted.
local function counted_locations(command, sku)
  local names = {}
  for _, field in ipairs(redis.call('HKEYS', command.prefix .. 'facts:' .. sku)) do
    names[#names + 1] = field:match('^counts\t(.*)$')
  end
  table.sort(names, is_before)
  return names
end

-- Brings a location to what its authority says. Returns what became of it, and if all that could be voided was.
local function correct(command, stock, place, on_hand, count)
  local change, before = on_hand - place.on_hand, place.on_hand
  stock.balances = load_balances(stock.sku_key, '')
  if fact_refusal(stock, place, change) then
    return 'refused', true
  end
  local voids = choose_voids(command, stock.sku, stock.balances, place.is_shared and change or 0)
  begin_entries(command)
  change_stock(command, stock, place, change, {
    kind = 'stock.corrected', source = count.source, reason = 'reconciliation',
    details = '{"ledger_quantity":' .. decimal(before) .. ',"authority_quantity":' .. decimal(on_hand) .. '}',
  })
  redis.call('HSET', place.facts.key, 'enforced\t' .. place.name, count.row)
  write_voids(command, voids)
  end_command(command)
  return 'corrected', voids.is_closed
end
