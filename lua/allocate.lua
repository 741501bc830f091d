#!lua
-- Notes from which locations the units of a sale are to be taken: a fulfilment decision. It replaces what was decided
-- before for the same SKUs; quantities in sum stay as they are.
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
-- ARGV[7..] sku,location,quantity text,text,integer 1..200 of them, each pair once
-- REPLY status now_us state agent channel order_id details created_us expires_us sequence lines availability
-- RETURNS too_late not_found too_many_keys idempotency_conflict replayed ended quantity_exceeds too_many_allocations
--   location_short unchanged allocated
-- COST O(lines + allocations), and at most 200 lines of due reservations
--
-- `location_short`: a location that is dedicated or has not so many units that are not allocated yet.

-- @include integer
-- @include open_reservation
-- @include move_units
-- @include allocations

-- parse
local meta_key, ledger_key, deadlines_key, reservation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, token, claim = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local key_hash, fingerprint, details = ARGV[4], ARGV[5], ARGV[6]
local wanted, wanted_of, is_named = {}, {}, {}
for i = 7, #ARGV, 3 do
  local sku, location, quantity = ARGV[i], ARGV[i + 1], integer(ARGV[i + 2], 'quantity', 1)
  local name = sku .. '\t' .. location
  if is_named[name] or #wanted == ALLOCATIONS_MAX then
    return redis.error_reply('BADARG 1 to 200 allocations, each pair of SKU and location once')
  end
  is_named[name], wanted_of[sku] = true, (wanted_of[sku] or 0) + quantity
  wanted[#wanted + 1] = { sku = sku, location = location, quantity = quantity }
end
if #wanted == 0 then
  return redis.error_reply('BADARG 1 to 200 allocations, each pair of SKU and location once')
end

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local record, early_reply = open_reservation(
  command, reservation_key, token, claim, not_after_us, key_hash, fingerprint
)
if early_reply then
  return early_reply
elseif record.status ~= 'committed' then
  return reservation_reply('ended', command, record)
end
local lines, line_of = parse_lines(record.remaining_lines), {}
load_lines(command, record, lines, not record.is_of_order and 'committed')
for _, line in ipairs(lines) do
  line_of[line.sku] = line
end

-- decide
for sku, quantity in pairs(wanted_of) do
  if not line_of[sku] or quantity > line_of[sku].quantity then
    return reservation_reply('quantity_exceeds', command, record)
  end
end
local allocations, changes, change_at = {}, {}, {}
local function add_change(each, quantity)
  local name = each.sku .. '\t' .. each.location
  if not change_at[name] then
    change_at[name] = { sku = each.sku, location = each.location, quantity = 0 }
    changes[#changes + 1] = change_at[name]
  end
  change_at[name].quantity = change_at[name].quantity + quantity
end
for _, each in ipairs(load_allocations(command, record, lines)) do
  if wanted_of[each.sku] then
    add_change(each, -each.quantity)
  else
    allocations[#allocations + 1] = each
  end
end
for _, each in ipairs(wanted) do
  add_change(each, each.quantity)
  allocations[#allocations + 1] = each
end
if #allocations > ALLOCATIONS_MAX then
  return reservation_reply('too_many_allocations', command, record)
end
local is_changed = false
for _, change in ipairs(changes) do
  local location = load_location(command.prefix .. 'locations:' .. change.sku, change.location, 'shared')
  local allocated = location.allocated + change.quantity
  if change.quantity > 0 and (not location.is_shared or allocated > location.on_hand) then
    return reservation_reply('location_short', command, record)
  end
  is_changed = is_changed or change.quantity ~= 0
end
if not is_changed then
  return reservation_reply('unchanged', command, record)
end

-- write
begin_entries(command)
for _, change in ipairs(changes) do
  if change.quantity ~= 0 then
    change_allocated(command, record, line_of[change.sku], change.location, change.quantity, details)
  end
end
store_allocations(record, allocations)
store_status(command, record, 'committed', nil)
remember(command, record, key_hash, fingerprint)
end_command(command)
return reservation_reply('allocated', command, record)
