-- @include settle_due
-- @include remembered

-- The common beginning of the verbs: the record, settled if it is due, its SKUs settled too; or the reply that ends
-- the command here (too late, unknown, a repeated request). Bounded settling of others never stops a verb: giving
-- back must always work, and commit decides on its own units alone.
local function open_reservation(command, reservation_key, token, not_after_us, hash, fingerprint)
  if command.now_us > not_after_us then
    return nil, empty_reply('too_late', command)
  end
  local record = load_reservation(command, reservation_key, token)
  if not record then
    return nil, empty_reply('not_found', command)
  end
  settle_due(command, parse_lines(record.remaining_lines))
  if record.is_due then
    record = load_reservation(command, reservation_key, token)
    if record.is_due then -- the bound was met before its turn came
      settle(command, record)
    end
  end
  return record, remembered_reply(command, record, hash, fingerprint)
end
