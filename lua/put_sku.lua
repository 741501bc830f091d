#!lua
-- Creates a SKU or changes how it may be sold.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] sku hash its quantities and policy
-- KEYS[5] holds zset token -> deadline of its live reservations
-- KEYS[6] locations hash what it has where
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] sku text 1..512
-- ARGV[3] expected_sequence text of the SKU, empty: any, *: it exists
-- ARGV[4] may_create flag 0|1
-- ARGV[5] details json what changed, for the ledger
-- ARGV[6..] field,value text,text the policy fields to store; an empty value takes one away
-- REPLY status now_us sequence on_hand reserved committed backordered safety_stock available shortfall next_release_us
--   locations channel_left safety_stock_units safety_stock_basis_points backorder_limit low_stock_threshold
--   max_quantity_per_reservation reconciliation_hold_us lead_time_days next_restock_date incoming substitutes
--   variant_group category channel_limits degraded_policy
-- RETURNS too_late reclaiming sequence_mismatch sku_not_found created updated
-- COST O(locations of the SKU), and at most 200 lines of due reservations
--
-- What the SKU says nothing about comes from its category, as that is now.

-- @include integer
-- @include open_stock
-- @include change_stock
-- @include change_policy

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local sku_key, holds_key, locations_key = KEYS[4], KEYS[5], KEYS[6]
local not_after_us, sku, expected_sequence = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local may_create, details = integer(ARGV[4], 'may_create', 0, 1) == 1, ARGV[5]
local changes = parse_policy(ARGV, 6)

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local stock = { sku = sku, sku_key = sku_key, holds_key = holds_key, locations_key = locations_key }
local early_reply = open_stock(command, stock, not_after_us, expected_sequence, '')
if early_reply then
  return early_reply
end

-- decide
local is_new = not stock.balances
if is_new and not may_create then
  return empty_sku_reply('sku_not_found', command)
end
stock.balances = stock.balances or no_balances()

-- write
begin_entries(command)
change_policy(command, stock, changes, details)
end_command(command)
return sku_reply(is_new and 'created' or 'updated', command, stock, '')
