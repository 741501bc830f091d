#!lua
-- Opens a partition at start, on reconnect and after a failover: creates its meta hash the first time, later proves
-- that it is the one the gateway knows. Takes the wall clock as it stands: the one place where a long pause counts
-- whole.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- ARGV[1] schema_version integer 1..1000 of keys, records and entries
-- ARGV[2] partition integer 0..1023 which one this is
-- ARGV[3] partitions integer 1..1024 how many there are
-- ARGV[4] secret text 32..128 what tokens of keyed requests are derived with, if there is none yet
-- ARGV[5] retention_ms ms 86400000..7776000000 how long ended reservations are kept
-- ARGV[6] sequence_seen integer 0..2^53-1 the highest sequence the gateway has seen here
-- ARGV[7] take_clock flag 0|1 take a step ahead whole: at start
-- ARGV[8] committed_retention_ms ms 86400000..31536000000 how long sold reservations are kept
-- ARGV[9] caps text what one caller may hold: see includes/caps.lua; empty for no caps, `keep` for those there are
-- REPLY status now_us secret sequence
-- RETURNS schema_mismatch partitions_mismatch rolled_back opened
-- COST O(1)

-- @include integer
-- @include begin_command

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local schema_version = decimal(integer(ARGV[1], 'schema_version', 1, 1000))
local partition = decimal(integer(ARGV[2], 'partition', 0, 1023))
local partitions = decimal(integer(ARGV[3], 'partitions', 1, 1024))
local secret, retention_ms = ARGV[4], integer(ARGV[5], 'retention_ms', 86400000, 7776000000)
local committed_retention_ms = integer(ARGV[8], 'committed_retention_ms', 86400000, 31536000000)
local sequence_seen, take_clock = integer(ARGV[6], 'sequence_seen'), integer(ARGV[7], 'take_clock', 0, 1) == 1
local caps = ARGV[9]
if caps ~= '' and caps ~= 'keep' and not caps:match('^%d*\t%d*\t%d*\t%d*\t%d+$') then
  return redis.error_reply('BADARG caps are five numbers, of which all but the last may be missing')
end
if #secret < 32 or #secret > 128 then
  return redis.error_reply('BADARG secret has 32 to 128 characters')
end

-- load
local meta = redis.call('HMGET', meta_key, 'schema_version', 'partition', 'partitions', 'secret', 'sequence')
local entry_count = redis.call('XLEN', ledger_key)
redis.call('ZCARD', deadlines_key)

-- decide
if meta[1] and meta[1] ~= schema_version then
  return { 'schema_mismatch', '0', '', meta[1] }
elseif meta[1] and (meta[2] ~= partition or meta[3] ~= partitions) then
  return { 'partitions_mismatch', '0', '', meta[3] }
elseif not meta[1] and sequence_seen == 0 and entry_count > 0 then
  return redis.error_reply('INVARIANT there is a ledger, but no meta hash beside it')
elseif sequence_seen > tonumber(meta[5] or 0) then
  return { 'rolled_back', '0', '', meta[5] or '0' }
end

-- write
if not meta[1] then
  redis.call(
    'HSET', meta_key, 'schema_version', schema_version, 'partition', partition, 'partitions', partitions,
    'secret', secret, 'sequence', '0', 'wall_us', decimal(wall_clock_us(meta_key)), 'offset_us', '0'
  )
end
redis.call(
  'HSET', meta_key, 'retention_ms', decimal(retention_ms), 'committed_retention_ms', decimal(committed_retention_ms)
)
if caps == '' then
  redis.call('HDEL', meta_key, 'caps')
elseif caps ~= 'keep' then
  redis.call('HSET', meta_key, 'caps', caps)
end
local clock_evidence_us = take_clock and 9007199254740991 or 0
local command = begin_command(meta_key, ledger_key, deadlines_key, clock_evidence_us)
return { 'opened', command.now, meta[4] or secret, decimal(command.sequence) }
