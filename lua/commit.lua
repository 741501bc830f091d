#!lua flags=allow-oom
-- Sells what a reservation holds, whole or in part; the rest goes back.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] reservation hash the record
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] token text 1..128
-- ARGV[3] claim text 0..520 whose it must be: see includes/open_reservation.lua
-- ARGV[4] key_hash text of the Idempotency-Key, else empty
-- ARGV[5] fingerprint text of the request with that key, else empty
-- ARGV[6] details json what the caller added, for the ledger
-- ARGV[7] order_id text 0..512
-- ARGV[8..] sku,quantity text,integer the lines to sell, each SKU once; none means all
-- REPLY status now_us state agent channel order_id details created_us expires_us sequence lines availability
-- RETURNS too_late not_found too_many_keys idempotency_conflict replayed unchanged ended quantity_exceeds
--   reclaiming shortfall committed
-- COST O(lines, 100 lines of the reservations in its order), at most 200 lines of due reservations, and of each SKU
--   that is short 1,000 holds looked at and 200 lines voided
--
-- A SKU with a reconciliation window keeps the units reserved until it is over (state pending_reconciliation). Where
-- more is promised than there is, holds are voided first, this one perhaps among them: no unit is sold that is lost.

-- @include integer
-- @include wanted_lines
-- @include open_reservation
-- @include close_shortfall
-- @include sell_lines

-- parse
local meta_key, ledger_key, deadlines_key, reservation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, token, claim = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local key_hash, fingerprint, details = ARGV[4], ARGV[5], ARGV[6]
local order_id, wanted = ARGV[7], wanted_quantities(ARGV, 8)

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local record, early_reply, is_clear = open_reservation(
  command, reservation_key, token, claim, not_after_us, key_hash, fingerprint
)
if early_reply then
  return early_reply
end

-- decide
local is_sold = record.status == 'committed' or record.status == 'fulfilled'
if is_sold or record.status == 'pending_reconciliation' then
  local committed = parse_lines(record.committed_lines)
  local is_same = wanted and equals(committed, wanted) or not wanted and record.committed_lines == record.lines
  return reservation_reply(is_same and 'unchanged' or 'ended', command, record)
elseif not record.is_open then
  return reservation_reply('ended', command, record)
end
local lines = parse_lines(record.remaining_lines)
if not covers(lines, wanted) then
  return reservation_reply('quantity_exceeds', command, record)
end
load_lines(command, record, lines, 'reserved')
local sequence = command.sequence -- of the voids, if there are any
is_clear = is_clear and close_shortfalls(command, lines, wanted)
if command.sequence > sequence then
  record = load_reservation(command, reservation_key, token)
  if not record.is_open then
    return reservation_reply('ended', command, record)
  end
  load_lines(command, record, lines, 'reserved')
end
local hold_us = 0
for _, line in ipairs(lines) do
  if not wanted or wanted[line.sku] then
    if shortfall_of(line.balances) > 0 then
      return reservation_reply(is_clear and 'shortfall' or 'reclaiming', command, record)
    end
    hold_us = math.max(hold_us, tonumber(redis.call('HGET', line.sku_key, 'reconciliation_hold_us') or 0))
  end
end

local news
local is_named = record.has_order and order_id ~= '' -- what was said of the token is said of the order
if is_named or hold_us == 0 and (order_id ~= '' or record.has_order) then
  -- @include sell_to_order
  news = open_order(command, record, order_id, lines)
end

-- write
local status, kind = 'committed', 'reservation.committed'
local first_expires = record.first_expires or record.expires
if hold_us > 0 then
  status, kind = 'pending_reconciliation', 'reservation.reconciling'
  record.expires = decimal(command.now_us + hold_us)
end
begin_entries(command)
local sold, unsold = sell_lines(command, record, lines, wanted, kind, details, news)
drop_deadline(command, record, lines)
if hold_us > 0 then
  store_deadline(command, record, sold)
  redis.call('HSET', record.key, 'expires_us', record.expires, 'first_expires_us', first_expires)
end
if #unsold > 0 then
  record.remaining_lines = format_lines(sold)
  redis.call('HSET', record.key, 'remaining_lines', record.remaining_lines)
end
if order_id ~= '' then
  record.order_id = order_id
  redis.call('HSET', record.key, 'order_id', order_id)
end
store_status(command, record, status, hold_us == 0 and 'committed_retention_ms')
if news then
  record = news.close(command, news)
end
remember(command, record, key_hash, fingerprint)
end_command(command)
return reservation_reply('committed', command, record)
