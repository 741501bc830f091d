-- @include integer
-- @include decimal
-- @include policy_fields
local QUANTITY_MAX = 1000000000000
local CHANNEL_LIMITS_MAX = 100

-- Reads the limits of channels from JSON, {channel: units}, into channel -> text.
local function parse_channel_limits(text)
  local is_json, limits = pcall(cjson.decode, text)
  local parsed, count = {}, 0
  for channel, units in pairs(is_json and text:find('^{') and limits or { false }) do
    count = count + 1
    local is_units = type(units) == 'number' and units >= 0 and units <= QUANTITY_MAX and units % 1 == 0
    if type(channel) ~= 'string' or not is_units or count > CHANNEL_LIMITS_MAX then
      return error(redis.error_reply('BADARG channel_limits is not a JSON object of units by channel'))
    end
    parsed[channel] = decimal(units)
  end
  return parsed
end

-- Reads field, value pairs from ARGV[from] on into field -> value, where false means the field is to go.
local function parse_policy(argv, from)
  local least = { max_quantity_per_reservation = 1 }
  local most = { -- of the integers
    safety_stock_units = QUANTITY_MAX, safety_stock_basis_points = 10000, backorder_limit = QUANTITY_MAX,
    low_stock_threshold = QUANTITY_MAX, max_quantity_per_reservation = QUANTITY_MAX,
    reconciliation_hold_us = 60000000, lead_time_days = 100000, incoming = QUANTITY_MAX,
  }
  local is_field, changes = {}, {}
  for _, field in ipairs(POLICY_FIELDS) do
    is_field[field] = true
  end
  for i = from, #argv, 2 do
    local field, value = argv[i], argv[i + 1]
    if not is_field[field] or not value then
      return error(redis.error_reply('BADARG no such policy field'))
    elseif value == '' then
      changes[field] = false
    elseif most[field] then
      changes[field] = decimal(integer(value, field, least[field], most[field]))
    else
      changes[field] = value
    end
  end
  if changes.channel_limits then
    parse_channel_limits(changes.channel_limits)
  end
  return changes
end
