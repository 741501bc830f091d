#!lua
-- Moves units of a SKU from one location to another, in one command of two entries.
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
-- ARGV[3] from_location text 1..512
-- ARGV[4] to_location text 1..512, another
-- ARGV[5] to_location_kind text shared|dedicated, if the SKU is not there yet
-- ARGV[6] quantity integer 1..10^12
-- ARGV[7] expected_sequence text of the SKU, empty: any, *: it exists
-- ARGV[8] reason text 1..2000
-- ARGV[9] fingerprint text of a request with an Idempotency-Key, else empty
-- ARGV[10] seen_retention_ms ms 1..604800000
-- ARGV[11] details json reference, key, fingerprint
-- REPLY status now_us sequence on_hand reserved committed backordered safety_stock available shortfall next_release_us
--   locations channel_left safety_stock_units safety_stock_basis_points backorder_limit low_stock_threshold
--   max_quantity_per_reservation reconciliation_hold_us lead_time_days next_restock_date incoming substitutes
--   variant_group category channel_limits degraded_policy
-- RETURNS too_late reclaiming idempotency_conflict replayed sequence_mismatch sku_not_found stock_below_zero
--   too_many_locations above_limit voiding transferred
-- COST O(locations of the SKU), at most 200 lines of due reservations, 1,000 holds looked at and 200 lines voided
--
-- Between shared locations nothing else changes; to a dedicated one units leave what may be sold, and what was promised
-- of them is voided like after any loss.

-- @include integer
-- @include open_stock
-- @include change_stock
-- @include close_shortfall
-- @include remember_stock

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local sku_key, holds_key, locations_key, seen_key = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local not_after_us, sku = integer(ARGV[1], 'not_after_us'), ARGV[2]
local from_location, to_location, to_location_kind = ARGV[3], ARGV[4], ARGV[5]
local quantity = integer(ARGV[6], 'quantity', 1, ON_HAND_MAX)
local expected_sequence, reason, fingerprint = ARGV[7], ARGV[8], ARGV[9]
local seen_retention_ms, details = integer(ARGV[10], 'seen_retention_ms', 1, 604800000), ARGV[11]
if from_location == to_location then
  return redis.error_reply('BADARG from_location and to_location are the same')
elseif to_location_kind ~= 'shared' and to_location_kind ~= 'dedicated' then
  return redis.error_reply('BADARG to_location_kind is shared or dedicated')
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
local from = load_location(locations_key, from_location, 'shared')
local to = load_location(locations_key, to_location, to_location_kind)

-- decide
if not stock.balances then
  return empty_sku_reply('sku_not_found', command)
end
local refusal = from.on_hand < quantity and 'stock_below_zero'
if not refusal then
  -- What leaves a shared location makes room for what arrives at another.
  local room = from.is_shared and to.is_shared and quantity or 0
  refusal = change_refusal(stock, to, quantity - room)
end
if refusal then
  return empty_sku_reply(refusal, command, stock.sequence)
end
local on_hand_change = (to.is_shared and quantity or 0) - (from.is_shared and quantity or 0)
local voids = choose_voids(command, sku, stock.balances, on_hand_change)

-- write
local entry = { kind = 'stock.transferred', is_count = false, source = 'operator', reason = reason, details = details }
begin_entries(command)
change_stock(command, stock, from, -quantity, entry)
change_stock(command, stock, to, quantity, entry)
write_voids(command, voids)
remember_stock(command, stock, fingerprint, seen_retention_ms)
end_command(command)
return sku_reply(voids.is_closed and 'transferred' or 'voiding', command, stock, '')
