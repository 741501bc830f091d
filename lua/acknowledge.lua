#!lua flags=allow-oom
-- Notes how far a reader of the ledger has come, and drops the oldest entries that no reader needs any more.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] readers hash reader -> the last sequence it needs no more
-- ARGV[1] reader text 1..64
-- ARGV[2] sequence integer 0..2^53-1 all entries up to this one are safe with the reader
-- ARGV[3] entries_kept integer 1..10^9 how many of the newest entries stay whoever has read them
-- REPLY status acknowledged first_sequence
-- RETURNS rolled_back acknowledged
-- COST O(readers), and at most 10,000 entries dropped
--
-- A stream ID is its sequence, so a bound on the ID is a bound on the number: what one call leaves the next one drops.
-- No reader's word is ever taken back: a late call of an earlier one changes nothing. Time plays no part.

-- @include decimal
-- @include integer

-- parse
local meta_key, ledger_key, readers_key = KEYS[1], KEYS[2], KEYS[3]
local reader, sequence = ARGV[1], integer(ARGV[2], 'sequence')
local entries_kept = integer(ARGV[3], 'entries_kept', 1, 1000000000)
local DROPPED_ENTRIES_MAX = 10000
if reader == '' or #reader > 64 then
  return redis.error_reply('BADARG reader has 1 to 64 characters')
end

-- load
local last_sequence = tonumber(redis.call('HGET', meta_key, 'sequence') or 0)
local first = redis.call('XRANGE', ledger_key, '-', '+', 'COUNT', 1)[1]
local first_sequence = first and tonumber(first[1]:match('^%d+')) or last_sequence + 1
local acknowledged = math.max(sequence, tonumber(redis.call('HGET', readers_key, reader) or 0))
local needless = acknowledged
local others = redis.call('HGETALL', readers_key)
for i = 1, #others, 2 do
  if others[i] ~= reader then
    needless = math.min(needless, tonumber(others[i + 1]))
  end
end

-- decide
if acknowledged > last_sequence then
  return { 'rolled_back', decimal(last_sequence), decimal(first_sequence) }
end
needless = math.min(needless, last_sequence - entries_kept, first_sequence + DROPPED_ENTRIES_MAX - 1)

-- write
redis.call('HSET', readers_key, reader, decimal(acknowledged))
if first_sequence <= needless then
  first_sequence = needless + 1
  redis.call('XTRIM', ledger_key, 'MINID', decimal(first_sequence))
end
return { 'acknowledged', decimal(acknowledged), decimal(first_sequence) }
