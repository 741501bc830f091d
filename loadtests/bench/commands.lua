#!lua
-- What reserve asks of the engine and nothing else: its reads, its writes, a reply as long. Every value is an
-- argument; nothing is checked or worked out. No script that does reserve's work can cost less.
local sku_key, deadlines_key, reservation_key, ledger_key, meta_key, holds_key = unpack(KEYS)
local token, now_us, expires_us, sequence, entry_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local sku, quantity, agent, channel, lines = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local on_hand, reserved, available, zero, empty = ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[15]
redis.call('HMGET', meta_key, 'sequence', 'wall_us', 'offset_us')
redis.call('TIME')
redis.call('ZCOUNT', deadlines_key, '-inf', now_us)
redis.call('HGET', reservation_key, 'status')
redis.call(
  'HMGET', sku_key, 'on_hand', 'reserved', 'committed', 'backordered', 'safety_stock',
  'low_stock_threshold', 'max_quantity_per_reservation', 'backorder_limit', 'promised:direct', 'limit:direct'
)
redis.call('ZCARD', holds_key)
redis.call(
  'XADD', ledger_key, entry_id, 'type', 'reservation.held', 'at_us', now_us, 'command', sequence, 'sku', sku,
  'quantity', quantity, 'on_hand', on_hand, 'reserved', reserved, 'committed', zero, 'backordered', zero,
  'available', available, 'token', token, 'agent', agent, 'channel', channel, 'expires_us', expires_us,
  'reason', empty, 'data', empty
)
redis.call(
  'HSET', sku_key, 'reserved', reserved, 'committed', zero, 'backordered', zero, 'sequence', sequence,
  'promised:direct', reserved
)
redis.call('ZADD', holds_key, expires_us, token)
redis.call('ZADD', deadlines_key, expires_us, token)
redis.call(
  'HSET', reservation_key, 'status', 'held', 'agent', agent, 'channel', channel, 'lines', lines,
  'created_us', now_us, 'expires_us', expires_us, 'sequence', sequence
)
redis.call('HSET', meta_key, 'sequence', sequence, 'wall_us', now_us)
return { 'held', now_us, 'held', now_us, expires_us, sequence, lines, lines }
