#!lua flags=allow-oom
-- Gives back what a reservation holds.
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
-- REPLY status now_us state agent channel order_id details created_us expires_us sequence lines availability
-- RETURNS too_late not_found too_many_keys idempotency_conflict replayed unchanged ended released
-- COST O(lines), and at most 200 lines of due reservations
--
-- Released, expired or voided already: unchanged. Sold: ended.

-- @include integer
-- @include open_reservation
-- @include move_units

-- parse
local meta_key, ledger_key, deadlines_key, reservation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, token, claim = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local key_hash, fingerprint, details = ARGV[4], ARGV[5], ARGV[6]

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local record, early_reply = open_reservation(
  command, reservation_key, token, claim, not_after_us, key_hash, fingerprint
)
if early_reply then
  return early_reply
end

-- decide
if record.status == 'released' or record.status == 'expired' or record.status == 'voided' then
  return reservation_reply('unchanged', command, record)
elseif not record.is_open then
  return reservation_reply('ended', command, record)
end
local lines = parse_lines(record.remaining_lines)
load_lines(command, record, lines, 'reserved')

-- write
begin_entries(command)
for _, line in ipairs(lines) do
  local quantity = line.quantity
  give_back(line, quantity, 'reserved')
  append_reservation_entry(command, 'reservation.released', record, line, decimal(quantity), '', details)
  store_balances(command, line, record)
end
drop_deadline(command, record, lines)
store_status(command, record, 'released', 'retention_ms')
remember(command, record, key_hash, fingerprint)
end_command(command)
return reservation_reply('released', command, record)
