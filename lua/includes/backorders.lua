-- @include decimal

-- Whose promises stand beyond stock: backorders:<sku> has the units of each reservation that no stock covers yet,
-- backorder_queue:<sku> in which order they were promised. Their sum is the SKU's `backordered`.
local function backorder_keys(command, sku)
  return command.prefix .. 'backorders:' .. sku, command.prefix .. 'backorder_queue:' .. sku
end

-- The units of a line that no stock covers yet; proves the types of both keys.
local function backorder_of(command, sku, token)
  local backorders_key, queue_key = backorder_keys(command, sku)
  redis.call('ZCARD', queue_key)
  return tonumber(redis.call('HGET', backorders_key, token) or 0)
end

-- What may still be promised beyond stock: the limit's rest, or nothing when the queue is as long as it may be, or
-- the token waits in it already, of a sale so old that its record is forgotten.
local BACKORDER_QUEUE_MAX = 5000

local function backorder_left_of(command, sku, balances, token)
  local backorders_key, queue_key = backorder_keys(command, sku)
  local is_waiting = redis.call('HEXISTS', backorders_key, token) == 1
  if redis.call('ZCARD', queue_key) >= BACKORDER_QUEUE_MAX or is_waiting then
    return 0
  end
  return math.max(0, balances.backorder_limit - balances.backordered)
end

-- Stores how many units of a line are backordered now; a new promise is the last in the queue.
local function store_backorder(command, line, token)
  local backorders_key, queue_key = backorder_keys(command, line.sku)
  if line.backordered == 0 then
    redis.call('HDEL', backorders_key, token)
    redis.call('ZREM', queue_key, token)
  else
    redis.call('HSET', backorders_key, token, decimal(line.backordered))
    redis.call('ZADD', queue_key, 'NX', line.balances.sequence, token)
  end
end

-- Notes that so many units now have stock behind them: those promised first.
local COVERED_AT_ONCE = 100

local function cover_oldest(command, sku, units)
  local backorders_key, queue_key = backorder_keys(command, sku)
  while units > 0 do
    local tokens = redis.call('ZRANGE', queue_key, 0, COVERED_AT_ONCE - 1)
    if #tokens == 0 then
      return error(redis.error_reply('INVARIANT more units are backordered than the queue holds'))
    end
    local backordered, covered = redis.call('HMGET', backorders_key, unpack(tokens)), {}
    for i, token in ipairs(tokens) do
      if units < tonumber(backordered[i]) then
        redis.call('HSET', backorders_key, token, decimal(backordered[i] - units))
        units = 0
        break
      end
      units, covered[i] = units - backordered[i], token
      if units == 0 then
        break
      end
    end
    if #covered > 0 then
      redis.call('HDEL', backorders_key, unpack(covered))
      redis.call('ZREM', queue_key, unpack(covered))
    end
  end
end
