#!lua
-- Holds units of one or many SKUs, all or nothing, until a deadline.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] reservation hash the record to create; a repeated request finds it
-- KEYS[5..] sku,holds hash,zset one pair a line: its quantities, its live reservations
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] token text 1..128
-- ARGV[3] agent text 0..512
-- ARGV[4] channel text 1..512
-- ARGV[5] ttl_us us 1..604800000000
-- ARGV[6] allow_backorder flag 0|1
-- ARGV[7] fingerprint text of a request with an Idempotency-Key, else empty
-- ARGV[8] details json reference, metadata, rationale, fingerprint: kept, not read
-- ARGV[9] holder text 0..140 who holds the key that the call came with, else empty
-- ARGV[10] account text 0..520 what the units are held in where caps are set: see includes/account.lua
-- ARGV[11..] sku,quantity text,integer one pair a line, 1..100 of them, each SKU once
-- REPLY status now_us state created_us expires_us sequence lines availability
-- RETURNS too_late replayed idempotency_conflict sku_not_found quantity_above_limit reclaiming agent_quota_exceeded
--   channel_limit_exceeded out_of_stock held
-- COST O(lines), and at most 200 lines of due reservations
--
-- `lines` of a refusal: the SKU, its limit, what the channel has of it; a row of includes/caps.lua, or of shortage.lua.

-- @include hold_lines
-- @include settle_due
-- @include append_entry
-- @include store_balances
-- @include held

-- parse
local meta_key, ledger_key, deadlines_key, reservation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, token = integer(ARGV[1], 'not_after_us'), ARGV[2]
local agent, channel, ttl_us = ARGV[3], ARGV[4], integer(ARGV[5], 'ttl_us', 1, 604800000000)
local allow_backorder, fingerprint, details = integer(ARGV[6], 'allow_backorder', 0, 1) == 1, ARGV[7], ARGV[8]
local holder, account, lines = ARGV[9], ARGV[10], hold_lines(KEYS, ARGV, 11)

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
if command.now_us > not_after_us then
  return { 'too_late', command.now, '', '', '', '', '', '' }
end
account = command.caps and account ~= '' and account -- else nobody counts
local is_clear = settle_due(command, lines, account)
if redis.call('HGET', reservation_key, 'status') then
  -- @include replayed_reserve
  return replayed_reserve(command, reservation_key, token, fingerprint)
end

-- decide
local above_limit, above_channel_limit, short_rows, rows = nil, nil, {}, {}
for _, line in ipairs(lines) do
  local balances = load_balances(line.sku_key, channel)
  if not balances then
    return { 'sku_not_found', command.now, '', '', '', '', line.sku, '' }
  end
  redis.call('ZCARD', line.holds_key)
  local available, channel_limit = math.max(0, available_of(balances)), balances.channel_limit
  if balances.quantity_max and line.quantity > tonumber(balances.quantity_max) then
    above_limit = above_limit or line.sku .. '\t' .. balances.quantity_max
  elseif channel_limit and balances.promised + line.quantity > tonumber(channel_limit) then
    above_channel_limit = above_channel_limit or line.sku .. '\t' .. channel_limit .. '\t' .. balances.promised
  end
  line.balances = balances
  if line.quantity > available then
    -- @include shortage
    local row = shortage(command, line, token, line.quantity - available, allow_backorder)
    if row then
      short_rows[#short_rows + 1], rows[#rows + 1] = row, remaining_row(line)
    end
  end
end
local in_account, above_cap
if account then
  -- @include caps
  in_account = load_account(command, account, lines)
  above_cap = broken_cap(command, in_account, lines)
end
if above_limit then
  return { 'quantity_above_limit', command.now, '', '', '', '', above_limit, '' }
elseif above_cap then
  return { is_clear and 'agent_quota_exceeded' or 'reclaiming', command.now, '', '', '', '', above_cap, '' }
elseif above_channel_limit then
  return { is_clear and 'channel_limit_exceeded' or 'reclaiming', command.now, '', '', '', '', above_channel_limit, '' }
elseif #short_rows > 0 then
  local status, about = is_clear and 'out_of_stock' or 'reclaiming', table.concat(short_rows, '\n')
  return { status, command.now, '', '', '', '', about, table.concat(rows, '\n') }
end

-- write
local expires = decimal(command.now_us + ttl_us)
local record = {
  key = reservation_key, token = token, agent = agent, channel = channel, expires = expires, details = details,
  fingerprint = fingerprint, holder = holder, account = account or '',
}
local data, stored_lines = held_data(record), {}
begin_entries(command)
for i, line in ipairs(lines) do
  local balances, units, quantity = line.balances, line.quantity, decimal(line.quantity)
  balances.reserved, balances.promised = decimal(balances.reserved + units), decimal(balances.promised + units)
  if line.backordered > 0 then
    balances.backordered = decimal(balances.backordered + line.backordered)
  end
  append_reservation_entry(command, 'reservation.held', record, line, quantity, '', data)
  store_balances(command, line, record)
  redis.call('ZADD', line.holds_key, expires, token)
  stored_lines[i] = line.sku .. '\t' .. quantity .. '\t' .. decimal(line.backordered)
  rows[i] = remaining_row(line)
end
redis.call('ZADD', deadlines_key, expires, token)
local record_lines, sequence = table.concat(stored_lines, '\n'), lines[#lines].balances.sequence
store_held(command, record, record_lines, sequence)
if in_account then
  -- @include account
  enter_account(in_account, token, expires, lines)
end
end_command(command)
return { 'held', command.now, 'held', command.now, expires, sequence, record_lines, table.concat(rows, '\n') }
