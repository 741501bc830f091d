-- @include decimal

-- Where a SKU lies. `on_hand TAB <location>` has the units there, `kind TAB <location>` says dedicated where it is not
-- shared, `allocated TAB <location>` has the sold units that a fulfilment decision put there, absent for none. Shared
-- locations make up the SKU's on_hand; a dedicated one is shown, not sold from. Its kind is decided when the SKU first
-- comes there.
local LOCATIONS_MAX = 200

local function load_location(locations_key, name, kind)
  local fields = redis.call('HMGET', locations_key, 'on_hand\t' .. name, 'kind\t' .. name, 'allocated\t' .. name)
  local is_new = not fields[1]
  return {
    key = locations_key, name = name, on_hand = tonumber(fields[1] or 0), allocated = tonumber(fields[3] or 0),
    is_new = is_new, is_shared = (is_new and kind or fields[2] or 'shared') == 'shared',
  }
end

local function store_location(location)
  redis.call('HSET', location.key, 'on_hand\t' .. location.name, decimal(location.on_hand))
  if location.is_new and not location.is_shared then
    redis.call('HSET', location.key, 'kind\t' .. location.name, 'dedicated')
  end
end

-- All of a SKU: name -> on_hand, kind, allocated, as the engine's text.
local function load_locations(locations_key)
  local locations, count, fields = {}, 0, redis.call('HGETALL', locations_key)
  for i = 1, #fields, 2 do
    local attribute, name = fields[i]:match('^([^\t]+)\t(.*)$')
    if not locations[name] then
      locations[name], count = {}, count + 1
    end
    locations[name][attribute] = fields[i + 1]
  end
  return locations, count
end
