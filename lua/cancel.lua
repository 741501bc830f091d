#!lua flags=allow-oom
-- Takes a sale back, whole or in part: committed, unshipped units return to stock.
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
-- ARGV[7..] sku,quantity text,integer the lines to take back, each SKU once; none means all
-- REPLY status now_us state agent channel order_id details created_us expires_us sequence lines availability
-- RETURNS too_late not_found too_many_keys idempotency_conflict replayed unchanged ended quantity_exceeds cancelled
-- COST O(lines + allocations, 100 lines of the reservations in its order), and at most 200 lines of due reservations
--
-- The state after a part is committed still; cancelled already, and no lines named: unchanged.

-- @include integer
-- @include wanted_lines
-- @include open_reservation
-- @include move_units
-- @include allocations

-- parse
local meta_key, ledger_key, deadlines_key, reservation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, token, claim = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local key_hash, fingerprint, details = ARGV[4], ARGV[5], ARGV[6]
local wanted = wanted_quantities(ARGV, 7)

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local record, early_reply = open_reservation(
  command, reservation_key, token, claim, not_after_us, key_hash, fingerprint
)
if early_reply then
  return early_reply
end

-- decide
if record.status == 'cancelled' and not wanted then
  return reservation_reply('unchanged', command, record)
elseif record.status ~= 'committed' then
  return reservation_reply('ended', command, record)
end
local lines = parse_lines(record.remaining_lines)
if not covers(lines, wanted) then
  return reservation_reply('quantity_exceeds', command, record)
end
load_lines(command, record, lines, not record.is_of_order and 'committed')
local news
if record.is_of_order then
  -- @include sell_to_order
  news = open_order(command, record, '', lines)
  local is_any, is_wanted = false, true
  for _, line in ipairs(lines) do
    line.unshipped = news.unshipped(news, line)
    is_any = is_any or line.unshipped > 0
    is_wanted = is_wanted and (not wanted or (wanted[line.sku] or 0) <= line.unshipped)
  end
  if not is_any or not is_wanted then
    return reservation_reply('quantity_exceeds', command, record)
  end
end
local allocations = load_allocations(command, record, lines)

-- write
local left = {}
begin_entries(command)
for _, line in ipairs(lines) do
  local quantity = wanted and (wanted[line.sku] or 0) or line.unshipped or line.quantity
  if quantity > 0 then
    if news then
      news.cancel(news, line, quantity)
    end
    give_back(line, quantity, 'committed')
    append_reservation_entry(command, 'reservation.cancelled', record, line, decimal(quantity), '', details)
    store_balances(command, line, record)
  end
  if line.quantity > 0 then
    left[#left + 1] = line
  end
end
trim_allocations(command, record, allocations, lines, details)
if #left > 0 then
  redis.call('HSET', record.key, 'committed_lines', record.committed_lines)
  record.remaining_lines = format_lines(left)
  redis.call('HSET', record.key, 'remaining_lines', record.remaining_lines)
end
if #left > 0 then
  store_status(command, record, 'committed', nil)
else
  store_status(command, record, 'cancelled', 'retention_ms')
end
if news then
  record = news.close(command, news)
end
remember(command, record, key_hash, fingerprint)
end_command(command)
return reservation_reply('cancelled', command, record)
