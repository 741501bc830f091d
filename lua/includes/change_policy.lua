-- @include parse_policy
-- @include append_stock_entry
-- @include safety_stock
-- @include store_stock

-- A SKU's policy as it is stored, field -> text, and the names of the fields it has from its category.
local function load_policy(sku_key)
  local stored, policy = redis.call('HMGET', sku_key, 'inherited', unpack(POLICY_FIELDS)), {}
  for i, field in ipairs(POLICY_FIELDS) do
    policy[field] = stored[i + 1] or nil
  end
  return policy, stored[1] or ''
end

-- What a SKU's policy becomes when `changes` are made: its own fields, and its category's where it says nothing.
-- Returns field -> text, and the names of the inherited ones.
local function resolve_policy(command, policy, inherited, changes)
  local own, names = {}, {}
  for field, value in pairs(policy) do
    own[field] = value
  end
  for field in inherited:gmatch('[^,]+') do
    own[field] = nil
  end
  for field, value in pairs(changes) do
    own[field] = value or nil
  end
  if own.category then
    local defaults = redis.call('HMGET', command.prefix .. 'category:' .. own.category, unpack(POLICY_FIELDS))
    for i, field in ipairs(POLICY_FIELDS) do
      if not own[field] and defaults[i] then
        own[field], names[#names + 1] = defaults[i], field
      end
    end
  end
  return own, table.concat(names, ',')
end

-- Stores the fields that differ, in one write.
local function store_policy(sku_key, before, after)
  local stored, dropped = {}, {}
  for _, field in ipairs(POLICY_FIELDS) do
    if after[field] and after[field] ~= before[field] then
      stored[#stored + 1], stored[#stored + 2] = field, after[field]
    elseif before[field] and not after[field] then
      dropped[#dropped + 1] = field
    end
  end
  if #stored > 0 then
    redis.call('HSET', sku_key, unpack(stored))
  end
  if #dropped > 0 then
    redis.call('HDEL', sku_key, unpack(dropped))
  end
end

-- The indexes of a SKU's categories, before and after; an empty name for none. Looking proves their types.
local function category_indexes(command, before, after)
  local indexes = {}
  for i, category in ipairs({ before or '', after or '' }) do
    indexes[i] = command.prefix .. 'category_skus:' .. category
    redis.call('ZCARD', indexes[i])
  end
  return indexes[1], indexes[2]
end

-- What goes into the entry: the caller's words, and what the SKU now has from its category, so that nobody who reads
-- the ledger has to know the category.
local function with_inherited(details, policy, inherited)
  local fields = {}
  for field in inherited:gmatch('[^,]+') do
    fields[#fields + 1] = '"' .. field .. '":' .. cjson.encode(policy[field])
  end
  return #fields == 0 and details or details:sub(1, -2) .. ',"inherited":{' .. table.concat(fields, ',') .. '}}'
end

local function store_channel_limits(sku_key, before, after)
  for channel in pairs(before and parse_channel_limits(before) or {}) do
    redis.call('HDEL', sku_key, 'limit:' .. channel)
  end
  for channel, units in pairs(after and parse_channel_limits(after) or {}) do
    redis.call('HSET', sku_key, 'limit:' .. channel, units)
  end
end

-- Changes how a SKU may be sold; `stock` is as includes/open_stock.lua left it, with balances.
local function change_policy(command, stock, changes, details)
  local sku_key, balances = stock.sku_key, stock.balances
  local before, inherited_before = load_policy(sku_key)
  local after, inherited = resolve_policy(command, before, inherited_before, changes)
  local index_before, index_after
  if after.category ~= before.category then
    index_before, index_after = category_indexes(command, before.category, after.category)
  end
  balances.safety_stock = safety_stock_of(
    balances.on_hand, after.safety_stock_units or 0, after.safety_stock_basis_points or 0
  )
  local data = with_inherited(details, after, inherited)
  append_stock_entry(command, 'sku.updated', stock.sku, balances, '0', nil, 'operator', '', data)
  store_stock(command, stock.sku, sku_key, balances)
  store_policy(sku_key, before, after)
  if after.channel_limits ~= before.channel_limits then
    store_channel_limits(sku_key, before.channel_limits, after.channel_limits)
  end
  if index_before then
    redis.call('ZREM', index_before, stock.sku)
    if after.category then
      redis.call('ZADD', index_after, 0, stock.sku)
    end
  end
  if inherited == '' and inherited_before ~= '' then
    redis.call('HDEL', sku_key, 'inherited')
  elseif inherited ~= inherited_before then
    redis.call('HSET', sku_key, 'inherited', inherited)
  end
end
