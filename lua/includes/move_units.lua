-- @include append_entry
-- @include store_balances
-- @include reservation

-- Loads the balances of a reservation's lines before anything is written, and proves what must be true of them.
-- `pool` names the balance that all of the units are in: 'reserved' or 'committed', or none where some have left. What
-- of a line was backordered when it was promised may have stock behind it by now.
local function load_lines(command, record, lines, pool)
  for _, line in ipairs(lines) do
    line.sku_key = command.prefix .. 'sku:' .. line.sku
    line.holds_key = command.prefix .. 'holds:' .. line.sku
    line.balances = load_balances(line.sku_key, record.channel)
    redis.call('ZCARD', line.holds_key)
    local balances = line.balances
    if balances and (balances.backordered ~= '0' or line.backordered > 0) then
      -- @include backorders
      line.backordered = backorder_of(command, line.sku, record.token)
    end
    line.backordered_before = line.backordered
    local is_short = pool and balances and balances[pool] - line.quantity < 0
    if not balances or is_short or balances.backordered - line.backordered < 0 then
      return error(redis.error_reply('INVARIANT the balances are below what a reservation holds'))
    end
  end
  if record.account and record.is_open then
    -- @include account
    record.in_account = load_account(command, record.account, lines)
    record.held_lines = parse_lines(record.remaining_lines)
  end
end

-- Gives `quantity` units of a line back: those it was promised beyond stock first, then units on hand.
local function give_back(line, quantity, pool)
  local balances = line.balances
  local backordered = math.min(line.backordered, quantity)
  line.quantity, line.backordered = line.quantity - quantity, line.backordered - backordered
  balances.backordered = decimal(balances.backordered - backordered)
  if pool then
    balances[pool] = decimal(balances[pool] - quantity)
    balances.promised = decimal(balances.promised - quantity)
  end
end

-- Sells `quantity` units of a line.
local function sell(line, quantity)
  local balances = line.balances
  balances.reserved = decimal(balances.reserved - quantity)
  balances.committed = decimal(balances.committed + quantity)
end

-- Puts a reservation's deadline into the indexes, or takes it out. One that leaves them leaves its account too: it has
-- ended, or it is sold.
local function store_deadline(command, record, lines)
  redis.call('ZADD', command.deadlines_key, record.expires, record.token)
  if record.in_account then
    redis.call('ZADD', record.in_account.holds_key, record.expires, record.token)
  end
  for _, line in ipairs(lines) do
    redis.call('ZADD', line.holds_key, record.expires, record.token)
  end
end

local function drop_deadline(command, record, lines)
  redis.call('ZREM', command.deadlines_key, record.token)
  for _, line in ipairs(lines) do
    redis.call('ZREM', line.holds_key, record.token)
  end
  if record.in_account then
    -- @include account
    leave_account(record.in_account, record.token, record.held_lines)
    record.in_account = nil
  end
end

-- Stores a reservation's new status. One that nothing waits for any more is kept for its retention, so that a late
-- question gets an answer: retention_ms once it has ended, committed_retention_ms once it is sold.
local function store_status(command, record, status, retention)
  record.status, record.sequence = status, decimal(command.sequence)
  redis.call('HSET', record.key, 'status', status, 'last_sequence', record.sequence)
  if retention then
    local kept_ms = redis.call('HGET', command.meta_key, retention)
    if record.is_of_order then
      kept_ms = decimal(math.max(tonumber(kept_ms), ORDER_KEPT_MS))
    end
    redis.call('PEXPIRE', record.key, kept_ms)
  end
end
