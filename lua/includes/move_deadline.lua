-- @include open_reservation
-- @include move_units

-- Moves the deadline of an open reservation to `start` + amount_us, where start is now or the deadline in force;
-- never earlier than it was, never past the maximum lifetime. Writes one entry of `kind` a line and returns the
-- verb's reply.
local function move_deadline(command, record, move)
  if not record.is_open then
    return reservation_reply('ended', command, record)
  end
  local start_us = move.is_from_now and command.now_us or tonumber(record.expires)
  local expires_us = math.max(tonumber(record.expires), start_us + move.amount_us)
  if expires_us > record.created + move.max_lifetime_us then
    return reservation_reply('lifetime_exceeded', command, record)
  end
  local lines = parse_lines(record.remaining_lines)
  load_lines(command, record, lines, 'reserved')

  local first_expires = record.first_expires or record.expires
  record.expires = decimal(expires_us)
  begin_entries(command)
  for _, line in ipairs(lines) do
    append_reservation_entry(command, move.kind, record, line, decimal(line.quantity), '', move.details)
    store_balances(command, line, record)
  end
  store_deadline(command, record, lines)
  redis.call('HSET', record.key, 'expires_us', record.expires, 'first_expires_us', first_expires)
  store_status(command, record, move.status or record.status, nil)
  remember(command, record, move.key_hash, move.fingerprint)
  end_command(command)
  return reservation_reply('moved', command, record)
end
