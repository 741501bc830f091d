#!lua
-- Changes what is on hand at a location, by a difference or to a counted number; creates the SKU and the location.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] sku hash its quantities and policy
-- KEYS[5] holds zset token -> deadline of its live reservations
-- KEYS[6] locations hash location -> on hand
-- KEYS[7] seen string the remembered answer of a request with an Idempotency-Key
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] sku text 1..512
-- ARGV[3] location text 1..512
-- ARGV[4] mode text delta|count
-- ARGV[5] amount integer -10^12..10^12, a count from 0
-- ARGV[6] expected_sequence text of the SKU, empty: any, *: it exists
-- ARGV[7] reason text 1..2000
-- ARGV[8] fingerprint text of a request with an Idempotency-Key, else empty
-- ARGV[9] seen_retention_ms ms 1..604800000
-- ARGV[10] details json reference, key, fingerprint
-- REPLY status now_us sequence on_hand reserved committed backordered safety_stock available shortfall next_release_us
--   locations safety_stock_units safety_stock_basis_points backorder_limit low_stock_threshold
--   max_quantity_per_reservation reconciliation_hold_us lead_time_days next_restock_date incoming substitutes
--   variant_group
-- RETURNS too_late reclaiming idempotency_conflict replayed sequence_mismatch too_many_locations stock_below_zero
--   above_limit adjusted
-- COST O(locations of the SKU), and at most 200 lines of due reservations

-- @include integer
-- @include settle_due
-- @include append_stock_entry
-- @include sku_reply
-- @include safety_stock

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local sku_key, holds_key, locations_key, seen_key = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local not_after_us, sku, location, mode = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3], ARGV[4]
local ON_HAND_MAX, LOCATIONS_MAX = 1000000000000, 200
local is_negative = ARGV[5]:sub(1, 1) == '-'
local amount = integer(is_negative and ARGV[5]:sub(2) or ARGV[5], 'amount', 0, ON_HAND_MAX)
local expected_sequence, reason, fingerprint = ARGV[6], ARGV[7], ARGV[8]
local seen_retention_ms, details = integer(ARGV[9], 'seen_retention_ms', 1, 604800000), ARGV[10]
if (mode ~= 'delta' and mode ~= 'count') or (mode == 'count' and is_negative) then
  return redis.error_reply('BADARG mode is delta or count, a count not negative')
end

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
if command.now_us > not_after_us then
  return empty_sku_reply('too_late', command)
end
if not settle_due(command, { { sku = sku } }) then
  return empty_sku_reply('reclaiming', command)
end
redis.call('ZCARD', holds_key)
local seen = fingerprint ~= '' and redis.call('GET', seen_key)
if seen then
  local first_fingerprint, first_sequence = seen:match('^([^\t]*)\t(%d+)$')
  local reply = sku_reply('replayed', command, sku_key, holds_key, locations_key)
  if first_fingerprint ~= fingerprint then
    reply[1] = 'idempotency_conflict'
  end
  reply[3] = first_sequence
  return reply
end
local balances = load_balances(sku_key)
local at_location = redis.call('HGET', locations_key, location)

-- decide
local sequence = redis.call('HGET', sku_key, 'sequence') or '0'
if expected_sequence ~= '' and not (balances and (expected_sequence == '*' or expected_sequence == sequence)) then
  return empty_sku_reply('sequence_mismatch', command, sequence)
end
if not at_location and redis.call('HLEN', locations_key) >= LOCATIONS_MAX then
  return empty_sku_reply('too_many_locations', command, sequence)
end
local is_new = not balances
balances = balances or { on_hand = '0', reserved = '0', committed = '0', backordered = '0', safety_stock = '0' }
local change = is_negative and -amount or amount
if mode == 'count' then
  change = amount - (at_location or 0)
end
local location_on_hand, on_hand = (at_location or 0) + change, balances.on_hand + change
if location_on_hand < 0 and change < 0 then
  return empty_sku_reply('stock_below_zero', command, sequence)
end
if location_on_hand > ON_HAND_MAX or on_hand > ON_HAND_MAX then
  return empty_sku_reply('above_limit', command, sequence)
end
balances.on_hand = decimal(on_hand)
if mode == 'count' or change > 0 then
  local policy = redis.call('HMGET', sku_key, 'safety_stock_units', 'safety_stock_basis_points')
  balances.safety_stock = safety_stock_of(on_hand, policy[1] or 0, policy[2] or 0)
end

-- write
begin_entries(command)
append_stock_entry(command, 'stock.adjusted', sku, balances, decimal(change), location, 'operator', reason, details)
if is_new then
  redis.call('HSET', sku_key, 'reserved', '0', 'committed', '0', 'backordered', '0')
end
redis.call(
  'HSET', sku_key, 'on_hand', balances.on_hand, 'safety_stock', balances.safety_stock, 'sequence', balances.sequence
)
redis.call('HSET', locations_key, location, decimal(location_on_hand))
if fingerprint ~= '' then
  redis.call('SET', seen_key, fingerprint .. '\t' .. balances.sequence, 'PX', seen_retention_ms)
end
end_command(command)
return sku_reply('adjusted', command, sku_key, holds_key, locations_key)
