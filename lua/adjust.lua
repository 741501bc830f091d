#!lua
-- Changes what is on hand at a location, by a difference or to a counted number; creates the SKU and the location.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] sku hash its quantities and policy
-- KEYS[5] holds zset token -> deadline of its live reservations
-- KEYS[6] locations hash what it has where
-- KEYS[7] seen string the remembered answer of a request with an Idempotency-Key
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] sku text 1..512
-- ARGV[3] location text 1..512
-- ARGV[4] location_kind text shared|dedicated, if the SKU is not there yet
-- ARGV[5] mode text delta|count
-- ARGV[6] amount integer -10^12..10^12, a count from 0
-- ARGV[7] expected_sequence text of the SKU, empty: any, *: it exists
-- ARGV[8] reason text 1..2000
-- ARGV[9] fingerprint text of a request with an Idempotency-Key, else empty
-- ARGV[10] seen_retention_ms ms 1..604800000
-- ARGV[11] details json reference, key, fingerprint
-- REPLY status now_us sequence on_hand reserved committed backordered safety_stock available shortfall next_release_us
--   locations channel_left safety_stock_units safety_stock_basis_points backorder_limit low_stock_threshold
--   max_quantity_per_reservation reconciliation_hold_us lead_time_days next_restock_date incoming substitutes
--   variant_group category channel_limits degraded_policy
-- RETURNS too_late reclaiming idempotency_conflict replayed sequence_mismatch too_many_locations stock_below_zero
--   above_limit voiding adjusted
-- COST O(locations of the SKU), at most 200 lines of due reservations, 1,000 holds looked at and 200 lines voided
--
-- What is promised and no longer there is voided at once; `voiding` is adjusted, with more to void than one call may.

-- @include integer
-- @include open_stock
-- @include change_stock
-- @include close_shortfall
-- @include remember_stock

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local sku_key, holds_key, locations_key, seen_key = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local not_after_us, sku, location, location_kind = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3], ARGV[4]
local mode, is_negative = ARGV[5], ARGV[6]:sub(1, 1) == '-'
local amount = integer(is_negative and ARGV[6]:sub(2) or ARGV[6], 'amount', 0, ON_HAND_MAX)
local expected_sequence, reason, fingerprint = ARGV[7], ARGV[8], ARGV[9]
local seen_retention_ms, details = integer(ARGV[10], 'seen_retention_ms', 1, 604800000), ARGV[11]
if (mode ~= 'delta' and mode ~= 'count') or (mode == 'count' and is_negative) then
  return redis.error_reply('BADARG mode is delta or count, a count not negative')
elseif location_kind ~= 'shared' and location_kind ~= 'dedicated' then
  return redis.error_reply('BADARG location_kind is shared or dedicated')
end

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local stock = {
  sku = sku, sku_key = sku_key, holds_key = holds_key, locations_key = locations_key, seen_key = seen_key,
}
local early_reply = open_stock(command, stock, not_after_us, expected_sequence, fingerprint)
if early_reply then
  return early_reply
end
local place = load_location(locations_key, location, location_kind)

-- decide
stock.balances = stock.balances or no_balances()
local change = mode == 'count' and amount - place.on_hand or (is_negative and -amount or amount)
local refusal = change_refusal(stock, place, change)
if refusal then
  return empty_sku_reply(refusal, command, stock.sequence)
end
local voids = choose_voids(command, sku, stock.balances, place.is_shared and change or 0)

-- write
begin_entries(command)
change_stock(command, stock, place, change, {
  kind = 'stock.adjusted', is_count = mode == 'count', source = 'operator', reason = reason, details = details,
})
write_voids(command, voids)
remember_stock(command, stock, fingerprint, seen_retention_ms)
end_command(command)
return sku_reply(voids.is_closed and 'adjusted' or 'voiding', command, stock, '')
