#!lua flags=allow-oom
-- Settles due reservations of any SKU, oldest deadline first: the sweeper's script. Says when to come again.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- ARGV[1] not_after_us us engine time past which the command is refused
-- REPLY status now_us settled_lines next_deadline_us
-- RETURNS too_late swept
-- COST at most 100 lines, and those of one basket more

-- @include integer
-- @include settle_index

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local not_after_us = integer(ARGV[1], 'not_after_us')
local SWEPT_LINES_MAX = 100

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)

-- decide
if command.now_us > not_after_us then
  return { 'too_late', command.now, '0', '0' }
end

-- write
local settled_lines = settle_index(command, deadlines_key, SWEPT_LINES_MAX)
local earliest = redis.call('ZRANGE', deadlines_key, 0, 0, 'WITHSCORES')
return { 'swept', command.now, decimal(settled_lines), earliest[2] or '0' }
