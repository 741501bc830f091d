-- @include lines

-- The record of one reservation.
--
--   lines             as reserved, never changed: with created_us, sequence and first_expires_us the first answer
--   remaining_lines   what is still held or committed, once that is less
--   committed_lines   what was committed, once a cancel took some of it back
--   expires_us        the deadline in force; while pending_reconciliation the end of the window
--   last_sequence     the last entry of the last command on it, once there was a second one
--   allocations       where the units of a sale are to be taken from, see includes/allocations.lua
--   has_order         1 where an order of its own, named by its token, was heard of: see includes/orders.lua
--   holder            who holds the key that it was reserved with, where it came with one
--   account           the account that it is in while it is open, where caps are set: see includes/account.lua
--   details           JSON of the caller (reference, metadata, ...); scripts never look inside
--   key:<hash>        the remembered answer of a later verb that came with an Idempotency-Key
--
-- One that was sold into an order is kept as long as that, however it ends: the order names it by its token, and a
-- repeated request may take the token of a record that is forgotten.
local ORDER_KEPT_MS = 31 * 86400000 -- by the wall clock, which may jump: a day longer than by engine time

local function load_reservation(command, reservation_key, token)
  local f = redis.call(
    'HMGET', reservation_key,
    'status', 'agent', 'channel', 'lines', 'created_us', 'expires_us', 'sequence', 'details',
    'remaining_lines', 'committed_lines', 'last_sequence', 'order_id', 'first_expires_us', 'has_order',
    'account'
  )
  if not f[1] then
    return nil
  end
  local record = {
    key = reservation_key, token = token, status = f[1], agent = f[2], channel = f[3], lines = f[4],
    created = f[5], expires = f[6], sequence = f[11] or f[7], details = f[8] or '',
    remaining_lines = f[9] or f[4], committed_lines = f[10] or f[9] or f[4], order_id = f[12] or '',
    first_expires = f[13], has_order = f[14] == '1', account = f[15],
  }
  record.is_of_order = record.order_id ~= '' or record.has_order
  local status = record.status
  record.is_open = status == 'held' or status == 'payment_pending'
  record.is_live = record.is_open or status == 'pending_reconciliation'
  record.is_due = record.is_live and tonumber(record.expires) <= command.now_us
  return record
end
