-- @include reservation_reply

-- The reply to a reserve whose token names a record already: the first answer to the same request, with the state and
-- the availability of now; to another request a conflict.
local function replayed_reserve(command, reservation_key, token, fingerprint)
  local first = redis.call('HMGET', reservation_key, 'fingerprint', 'sequence')
  if fingerprint == '' or first[1] ~= fingerprint then
    return { 'idempotency_conflict', command.now, '', '', '', '', '', '' }
  end
  local record = load_reservation(command, reservation_key, token)
  return {
    'replayed', command.now, record.status, record.created, record.first_expires or record.expires, first[2],
    record.lines, availability_rows(command.prefix, parse_lines(record.lines)),
  }
end
