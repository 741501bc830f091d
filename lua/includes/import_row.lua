-- @include settle_due
-- @include change_stock
-- @include parse_policy

-- One row of a stock file: what it says of a SKU, what of that is new, and making it so.
local IMPORT_ROWS_MAX = 300

-- Reads {"policy": {field: text}}.
local function parse_import_policy(details)
  local is_json, named = pcall(cjson.decode, details)
  if not is_json or type(named) ~= 'table' or type(named.policy) ~= 'table' then
    return error(redis.error_reply('BADARG details is no policy'))
  end
  local fields = {}
  for field, value in pairs(named.policy) do
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  return parse_policy(fields, 1)
end

-- Reads rows of five arguments each, with their three keys.
local function parse_import_rows(keys, first_key, argv, first_arg)
  local count, rows, policies = (#argv - first_arg + 1) / 5, {}, {}
  if count % 1 ~= 0 or count < 1 or count > IMPORT_ROWS_MAX or #keys - first_key + 1 ~= count * 3 then
    return error(redis.error_reply('BADARG 1 to 300 rows of five arguments, each with three keys'))
  end
  for i = 1, count do
    local key, arg = first_key + (i - 1) * 3, first_arg + (i - 1) * 5
    local row = {
      sku = argv[arg], location_name = argv[arg + 1], location_kind = argv[arg + 2],
      sku_key = keys[key], holds_key = keys[key + 1], locations_key = keys[key + 2],
      on_hand = argv[arg + 3] ~= '' and integer(argv[arg + 3], 'on_hand', 0, ON_HAND_MAX) or nil,
      details = argv[arg + 4],
    }
    if row.location_kind ~= 'shared' and row.location_kind ~= 'dedicated' then
      return error(redis.error_reply('BADARG location_kind is shared or dedicated'))
    end
    if row.details ~= '' then
      policies[row.details] = policies[row.details] or parse_import_policy(row.details)
      row.policy = policies[row.details]
    end
    rows[i] = row
  end
  return rows
end

-- The SKU as it stands, the types of its keys proved.
local function load_import_stock(command, row)
  redis.call('ZCARD', row.holds_key)
  redis.call('HLEN', row.locations_key)
  local balances = load_balances(row.sku_key, '')
  if balances and balances.backordered ~= '0' then
    -- @include backorders
    backorder_of(command, row.sku, '')
  end
  return {
    sku = row.sku, sku_key = row.sku_key, holds_key = row.holds_key, locations_key = row.locations_key,
    is_new = not balances, balances = balances or no_balances(),
  }
end

-- Does the row name a policy that is another than the SKU's own?
local function changes_policy(stock, row)
  if not row.policy or stock.is_new then
    return row.policy ~= nil
  end
  local stored = redis.call('HMGET', stock.sku_key, unpack(POLICY_FIELDS))
  local inherited = ',' .. (redis.call('HGET', stock.sku_key, 'inherited') or '') .. ','
  for i, field in ipairs(POLICY_FIELDS) do
    local value = row.policy[field]
    if value and (value ~= stored[i] or inherited:find(',' .. field .. ',', 1, true)) then
      return true
    end
  end
  return false
end

-- What the row does to its location: the location, the difference; why it cannot, if so.
local function plan_count(stock, row)
  local location = load_location(stock.locations_key, row.location_name, row.location_kind)
  local change = row.on_hand - location.on_hand
  if location.is_new then -- those that rows before it would add count too
    local added = stock.added_locations or 0
    stock.added_locations = added + 1
    if added > 0 and select(2, load_locations(stock.locations_key)) + added >= LOCATIONS_MAX then
      return location, change, 'too_many_locations'
    end
  end
  return location, change, change_refusal(stock, location, change)
end

-- Takes note of a count that is only checked, for the SKU's next row.
local function note_count(stock, location, change)
  if location and location.is_shared then
    stock.balances.on_hand = decimal(stock.balances.on_hand + change)
  end
end
