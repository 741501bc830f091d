-- @include settle_due
-- @include remembered

-- Does a reservation belong to whoever claims it? Any does to an empty claim; else it must be the agent's, of
-- `agent TAB <agent id>`, or have been reserved with the holder's key, of `holder TAB <holder>`.
local function is_claimed(record, claim)
  if claim == '' or claim == 'agent\t' .. record.agent then
    return true
  end
  local holder = redis.call('HGET', record.key, 'holder')
  return holder and claim == 'holder\t' .. holder
end

-- The common beginning of the verbs: the record, settled if it is due, its SKUs settled too; or the reply that ends
-- the command here (too late, unknown, another's, a repeated request). The third value is false where more was due on
-- its SKUs than one call settles: that stops no verb, for giving back must always work; commit alone must know it.
local function open_reservation(command, reservation_key, token, claim, not_after_us, hash, fingerprint)
  if command.now_us > not_after_us then
    return nil, empty_reply('too_late', command)
  end
  local record = load_reservation(command, reservation_key, token)
  if not (record and is_claimed(record, claim)) then -- nothing tells the two apart
    return nil, empty_reply('not_found', command)
  end
  local sequence = command.sequence
  local is_clear = settle_due(command, parse_lines(record.remaining_lines))
  if command.sequence > sequence then -- it is settled itself, or what was sold into the same order moved it on
    record = load_reservation(command, reservation_key, token)
    if record.is_due then -- the bound was met before its turn came
      -- @include settle_index
      settle(command, record)
      record = load_reservation(command, reservation_key, token)
    end
  end
  return record, remembered_reply(command, record, hash, fingerprint), is_clear
end
