#!lua flags=allow-oom
-- Reads a SKU: quantities, policy, locations. What is due on it is settled first.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] sku hash its quantities and policy
-- KEYS[5] holds zset token -> deadline of its live reservations
-- KEYS[6] locations hash what it has where
-- ARGV[1] not_after_us us engine time of the question
-- ARGV[2] sku text 1..512
-- ARGV[3] channel text whose share of the SKU is asked about, empty for none
-- REPLY status now_us sequence on_hand reserved committed backordered safety_stock available shortfall next_release_us
--   locations channel_left safety_stock_units safety_stock_basis_points backorder_limit low_stock_threshold
--   max_quantity_per_reservation reconciliation_hold_us lead_time_days next_restock_date incoming substitutes
--   variant_group category channel_limits degraded_policy
-- RETURNS sku_not_found reclaiming found
-- COST O(locations of the SKU), and at most 200 lines of due reservations

-- @include integer
-- @include settle_due
-- @include sku_reply

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local sku_key, holds_key, locations_key = KEYS[4], KEYS[5], KEYS[6]
local not_after_us, sku, channel = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local is_clear = settle_due(command, { { sku = sku } })

-- decide
if redis.call('EXISTS', sku_key) == 0 then
  return empty_sku_reply('sku_not_found', command)
elseif not is_clear then
  return empty_sku_reply('reclaiming', command)
end
local stock = { sku = sku, sku_key = sku_key, holds_key = holds_key, locations_key = locations_key }
return sku_reply('found', command, stock, channel)
