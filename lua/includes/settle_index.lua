-- @include begin_command
-- @include move_units

-- A due hold goes back; a reconciliation window that is over becomes a sale. Each is a command of its own.
local function settle(command, record)
  local lines = parse_lines(record.remaining_lines)
  load_lines(command, record, lines, 'reserved')

  local is_sale = record.status == 'pending_reconciliation'
  local kind = is_sale and 'reservation.committed' or 'reservation.expired'
  local reason = record.status == 'payment_pending' and 'payment_expired' or ''
  local news, data = nil, ''
  if record.in_account then
    -- @include caps
    data = note_expiry(command, record.in_account, tonumber(record.expires))
  end
  if is_sale and record.is_of_order then
    -- @include sell_to_order
    news = open_order(command, record, '', lines)
  end
  begin_entries(command)
  for _, line in ipairs(lines) do
    local quantity = line.quantity
    if news then
      news.sell(news, line, quantity)
    elseif is_sale then
      sell(line, quantity)
    else
      give_back(line, quantity, 'reserved')
    end
    append_reservation_entry(command, kind, record, line, decimal(quantity), reason, data)
    store_balances(command, line, record)
  end
  drop_deadline(command, record, lines)
  local status = is_sale and 'committed' or 'expired'
  store_status(command, record, status, is_sale and 'committed_retention_ms' or 'retention_ms')
  if news then
    news.close(command, news)
  end
  end_command(command)
  return #lines
end

-- Settles due reservations in the index at `key`, oldest deadline first, until none is due or `lines_max` lines are
-- done. What is settled is stored at once and stands, whatever the command itself decides. Returns the lines, and if
-- none is due.
local function settle_index(command, key, lines_max)
  local settled_lines = 0
  while settled_lines < lines_max do
    local token = redis.call('ZRANGEBYSCORE', key, '-inf', command.now, 'LIMIT', 0, 1)[1]
    if not token then
      return settled_lines, true
    end
    local record = load_reservation(command, command.prefix .. 'reservation:' .. token, token)
    if not record or not record.is_due then
      return error(redis.error_reply('INVARIANT a deadline belongs to no live reservation'))
    end
    settled_lines = settled_lines + settle(command, record)
  end
  return settled_lines, false
end
