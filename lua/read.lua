#!lua flags=allow-oom
-- Reads a reservation; one that is due is settled first, so that what is read is what stands.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] reservation hash the record
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] token text 1..128
-- ARGV[3] claim text 0..520 whose it must be: see includes/open_reservation.lua
-- REPLY status now_us state agent channel order_id details created_us expires_us sequence lines availability
-- RETURNS not_found found
-- COST O(lines), and at most 200 lines of due reservations

-- @include integer
-- @include open_reservation

-- parse
local meta_key, ledger_key, deadlines_key, reservation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, token, claim = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local record, early_reply = open_reservation(command, reservation_key, token, claim, command.now_us, '', '')

-- decide
return early_reply or reservation_reply('found', command, record)
