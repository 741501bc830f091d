-- @include append_entry
-- @include store_balances
-- @include reservation

-- Loads the balances of a reservation's lines before anything is written, and proves what must be true of them.
-- `pool` names the balance that the units are in: 'reserved' or 'committed'.
local function load_lines(command, lines, pool)
  for _, line in ipairs(lines) do
    line.sku_key = command.prefix .. 'sku:' .. line.sku
    line.holds_key = command.prefix .. 'holds:' .. line.sku
    line.balances = load_balances(line.sku_key)
    redis.call('ZCARD', line.holds_key)
    local balances = line.balances
    if not balances or balances[pool] - line.quantity < 0 or balances.backordered - line.backordered < 0 then
      return error(redis.error_reply('INVARIANT the balances are below what a reservation holds'))
    end
  end
end

-- Gives `quantity` units of a line back: those it was promised beyond stock first, then units on hand.
local function give_back(line, quantity, pool)
  local balances = line.balances
  local backordered = math.min(line.backordered, quantity)
  line.quantity, line.backordered = line.quantity - quantity, line.backordered - backordered
  balances[pool] = decimal(balances[pool] - quantity)
  balances.backordered = decimal(balances.backordered - backordered)
end

-- Sells `quantity` units of a line.
local function sell(line, quantity)
  local balances = line.balances
  balances.reserved = decimal(balances.reserved - quantity)
  balances.committed = decimal(balances.committed + quantity)
end

-- Puts a reservation's deadline into the two indexes, or takes it out.
local function store_deadline(command, record, lines)
  redis.call('ZADD', command.deadlines_key, record.expires, record.token)
  for _, line in ipairs(lines) do
    redis.call('ZADD', line.holds_key, record.expires, record.token)
  end
end

local function drop_deadline(command, record, lines)
  redis.call('ZREM', command.deadlines_key, record.token)
  for _, line in ipairs(lines) do
    redis.call('ZREM', line.holds_key, record.token)
  end
end

-- Stores a reservation's new status; an ended one is kept for its retention, so that a late question gets an answer.
local function store_status(command, record, status, is_ended)
  record.status, record.sequence = status, decimal(command.sequence)
  redis.call('HSET', record.key, 'status', status, 'last_sequence', record.sequence)
  if is_ended then
    redis.call('PEXPIRE', record.key, redis.call('HGET', command.meta_key, 'retention_ms'))
  end
end
