#!lua
-- Creates a SKU or changes how it may be sold.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] sku hash its quantities and policy
-- KEYS[5] holds zset token -> deadline of its live reservations
-- KEYS[6] locations hash location -> on hand
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] sku text 1..512
-- ARGV[3] expected_sequence text of the SKU, empty: any, *: it exists
-- ARGV[4] may_create flag 0|1
-- ARGV[5] details json what changed, for the ledger
-- ARGV[6..] field,value text,text the policy fields to store
-- REPLY status now_us sequence on_hand reserved committed backordered safety_stock available shortfall next_release_us
--   locations safety_stock_units safety_stock_basis_points backorder_limit low_stock_threshold
--   max_quantity_per_reservation reconciliation_hold_us lead_time_days next_restock_date incoming substitutes
--   variant_group
-- RETURNS too_late reclaiming sku_not_found sequence_mismatch created updated
-- COST O(locations of the SKU), and at most 200 lines of due reservations

-- @include integer
-- @include settle_due
-- @include append_stock_entry
-- @include sku_reply
-- @include safety_stock

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local sku_key, holds_key, locations_key = KEYS[4], KEYS[5], KEYS[6]
local not_after_us, sku, expected_sequence = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local may_create, details = integer(ARGV[4], 'may_create', 0, 1) == 1, ARGV[5]
local QUANTITY_MAX = 1000000000000
local INTEGERS = { -- the largest value of each
  safety_stock_units = QUANTITY_MAX, safety_stock_basis_points = 10000, backorder_limit = QUANTITY_MAX,
  low_stock_threshold = QUANTITY_MAX, reconciliation_hold_us = 60000000, incoming = QUANTITY_MAX,
}
local TEXTS = {
  max_quantity_per_reservation = true, lead_time_days = true, next_restock_date = true, substitutes = true,
  variant_group = true,
}
local changes, removals = {}, {}
for i = 6, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if INTEGERS[field] then
    changes[field] = decimal(integer(value, field, 0, INTEGERS[field]))
  elseif TEXTS[field] and value ~= '' then
    changes[field] = value
  elseif TEXTS[field] then
    removals[#removals + 1] = field
  else
    return redis.error_reply('BADARG no such policy field')
  end
end
if changes.max_quantity_per_reservation then
  integer(changes.max_quantity_per_reservation, 'max_quantity_per_reservation', 1, QUANTITY_MAX)
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
redis.call('HLEN', locations_key)
local balances = load_balances(sku_key)

-- decide
local sequence = redis.call('HGET', sku_key, 'sequence') or '0'
if not balances and not may_create and expected_sequence == '' then
  return empty_sku_reply('sku_not_found', command)
elseif expected_sequence ~= '' and not (balances and (expected_sequence == '*' or expected_sequence == sequence)) then
  return empty_sku_reply('sequence_mismatch', command, sequence)
end
local is_new = not balances
balances = balances or { on_hand = '0', reserved = '0', committed = '0', backordered = '0' }
local policy = redis.call('HMGET', sku_key, 'safety_stock_units', 'safety_stock_basis_points')
balances.safety_stock = safety_stock_of(
  balances.on_hand,
  changes.safety_stock_units or policy[1] or 0,
  changes.safety_stock_basis_points or policy[2] or 0
)

-- write
begin_entries(command)
append_stock_entry(command, 'sku.updated', sku, balances, '0', '', 'operator', '', details)
if is_new then
  redis.call('HSET', sku_key, 'on_hand', '0', 'reserved', '0', 'committed', '0', 'backordered', '0')
end
redis.call('HSET', sku_key, 'safety_stock', balances.safety_stock, 'sequence', balances.sequence)
for field, value in pairs(changes) do
  redis.call('HSET', sku_key, field, value)
end
for _, field in ipairs(removals) do
  redis.call('HDEL', sku_key, field)
end
end_command(command)
return sku_reply(is_new and 'created' or 'updated', command, sku_key, holds_key, locations_key)
