#!lua
-- What reserve is measured against: the four writes that any hold with a deadline, a record and a log needs, and
-- nothing that makes them safe. No check, no clock, no reply; every value is an argument, as long as the real one.
local token, now_us, expires_us, sequence, entry_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local sku, quantity, agent, channel, lines = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local on_hand, reserved, available, zero, empty = ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[15]
redis.call('HINCRBY', KEYS[1], 'reserved', quantity)
redis.call('ZADD', KEYS[2], expires_us, token)
redis.call(
  'HSET', KEYS[3], 'status', 'held', 'agent', agent, 'channel', channel, 'lines', lines,
  'created_us', now_us, 'expires_us', expires_us, 'sequence', sequence
)
redis.call(
  'XADD', KEYS[4], entry_id, 'type', 'reservation.held', 'at_us', now_us, 'command', sequence, 'sku', sku,
  'quantity', quantity, 'on_hand', on_hand, 'reserved', reserved, 'committed', zero, 'backordered', zero,
  'available', available, 'token', token, 'agent', agent, 'channel', channel, 'expires_us', expires_us,
  'reason', empty, 'data', empty
)
return 'OK'
