#!lua
-- Brings SKUs to what a stock file says of them: the units counted at a location, the policy as far as it is named.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4..] sku,holds,locations hash,zset,hash quantities and policy, live reservations, what it has where
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] mode text check|apply
-- ARGV[3] reason text 1..2000
-- ARGV[4..] sku,location,location_kind,on_hand,details text,text,text,text,json a row: no on_hand, no count; details
--   empty or {"policy": {field: text}}, for the ledger; rows of one SKU stand together
-- REPLY status now_us sequence rows changed
-- RETURNS too_late reclaiming too_many_locations above_limit voiding done
-- COST O(rows and locations of their SKUs), at most 300 rows, 200 lines of due reservations, 1,000 holds looked at and
--   200 lines voided
--
-- Each row writes what it changes, as commands of its own; what is so already is not written. `rows` were done, of
-- which `changed` wrote something: not all where the next one is refused, or where holds were voided; `voiding` where
-- there is more to void of the last one's SKU. Mode check writes nothing and meets the refusals that applying would.

-- @include integer
-- @include apply_import_row

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local not_after_us, mode, reason = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local rows = parse_import_rows(KEYS, 4, ARGV, 4)
if mode ~= 'check' and mode ~= 'apply' then
  return redis.error_reply('BADARG mode is check or apply')
end

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
if command.now_us > not_after_us then
  return { 'too_late', command.now, '0', '0', '0' }
elseif mode == 'apply' and not settle_due(command, rows) then
  return { 'reclaiming', command.now, '0', '0', '0' }
end
local stock, changed = nil, 0
local function reply(status, done)
  return { status, command.now, decimal(command.sequence), decimal(done), decimal(changed) }
end

-- decide, write
for i, row in ipairs(rows) do
  if mode == 'apply' or not stock or stock.sku ~= row.sku then
    stock = load_import_stock(command, row)
  end
  local location, change, refusal
  if row.on_hand then
    location, change, refusal = plan_count(stock, row)
    if refusal then
      return reply(refusal, i - 1)
    end
  end
  if mode == 'check' then
    note_count(stock, location, change)
  else
    local has_changed, voids = apply_row(command, stock, row, location, change, reason)
    changed = changed + (has_changed and 1 or 0)
    if #voids > 0 then
      return reply(voids.is_closed and 'done' or 'voiding', i)
    end
  end
end
return reply('done', #rows)
