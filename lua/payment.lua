#!lua
-- Notes that a payment runs: a later deadline, and a manual review if it passes.
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
-- ARGV[7] ttl_us us 1..604800000000
-- ARGV[8] max_lifetime_us us 1..604800000000
-- REPLY status now_us state agent channel order_id details created_us expires_us sequence lines availability
-- RETURNS too_late not_found too_many_keys idempotency_conflict replayed ended lifetime_exceeded moved
-- COST O(lines), and at most 200 lines of due reservations

-- @include integer
-- @include move_deadline

-- parse
local meta_key, ledger_key, deadlines_key, reservation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, token, claim = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local key_hash, fingerprint, details = ARGV[4], ARGV[5], ARGV[6]
local ttl_us = integer(ARGV[7], 'ttl_us', 1, 604800000000)
local max_lifetime_us = integer(ARGV[8], 'max_lifetime_us', 1, 604800000000)

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local record, early_reply = open_reservation(
  command, reservation_key, token, claim, not_after_us, key_hash, fingerprint
)
if early_reply then
  return early_reply
end

-- decide, write
return move_deadline(command, record, {
  kind = 'reservation.payment_pending', status = 'payment_pending', is_from_now = true, amount_us = ttl_us,
  max_lifetime_us = max_lifetime_us, key_hash = key_hash, fingerprint = fingerprint, details = details,
})
