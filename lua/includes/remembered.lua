-- @include reservation_reply

-- The answers that a record remembers for verbs with an Idempotency-Key: under key:<hash> the request's fingerprint,
-- then the sequence, deadline and lines as answered. How many one record takes is bounded.
local REMEMBERED_FIELDS_MAX = 300

local function remember(command, record, hash, fingerprint)
  if hash ~= '' then
    redis.call(
      'HSET', record.key, 'key:' .. hash,
      fingerprint .. '\t' .. record.sequence .. '\t' .. record.expires .. '\n' .. current_lines(command, record)
    )
  end
end

-- The reply to a repeated request, or nil when the request is new.
local function remembered_reply(command, record, hash, fingerprint)
  if hash == '' then
    return nil
  end
  local remembered = redis.call('HGET', record.key, 'key:' .. hash)
  if not remembered then
    if redis.call('HLEN', record.key) > REMEMBERED_FIELDS_MAX then
      return reservation_reply('too_many_keys', command, record)
    end
    return nil
  end
  local first_fingerprint, sequence, expires, lines = remembered:match('^([^\t]*)\t(%d+)\t(%d+)\n(.*)$')
  if first_fingerprint ~= fingerprint then
    return reservation_reply('idempotency_conflict', command, record)
  end
  record.sequence, record.expires, record.answered_lines = sequence, expires, lines
  return reservation_reply('replayed', command, record)
end
