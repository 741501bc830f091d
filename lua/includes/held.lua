-- A new reservation: what its entries say besides its lines, and its record. Of what there is nothing of, nothing is
-- written: see includes/reservation.lua.

local function with_member(json, name, text)
  if text == '' then
    return json
  end
  return '{"' .. name .. '":' .. cjson.encode(text) .. (json == '' and '}' or ',' .. json:sub(2))
end

local function held_data(record)
  return with_member(with_member(record.details, 'holder', record.holder), 'account', record.account)
end

local function store_held(command, record, lines, sequence)
  redis.call(
    'HSET', record.key, 'status', 'held', 'agent', record.agent, 'channel', record.channel, 'lines', lines,
    'created_us', command.now, 'expires_us', record.expires, 'sequence', sequence
  )
  if record.details ~= '' then
    redis.call('HSET', record.key, 'details', record.details, 'fingerprint', record.fingerprint)
  end
  if record.holder ~= '' then
    redis.call('HSET', record.key, 'holder', record.holder)
  end
  if record.account ~= '' then
    redis.call('HSET', record.key, 'account', record.account)
  end
end
