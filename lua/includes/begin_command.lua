-- @include decimal
-- @include wall_clock

-- Opens a command: the partition's last sequence and engine time, read once.
--
-- Engine time is the wall clock made safe. It advances by what the wall clock advanced since it was last stored; a
-- step back adds nothing and time goes on from there; a step ahead of more than a minute counts only as far as the
-- calling gateway's monotonic clock saw it too. A clock set forward two hours thus cannot expire every hold at once.
--
-- Stored are the wall clock when last written and engine time's distance to it (offset_us, 0 until a clock jumped).
-- Writers store the wall clock when they end; a jump, or half a minute without a writer, is stored here at once.
--
-- not_after_us is the gateway's estimate of engine time plus its timeout: the command's last moment, and the gateway's
-- testimony of how far time has come.
local CLOCK_STEP_US_MAX = 60000000
local CLOCK_STORED_AGE_US_MAX = 30000000

local function begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
  local meta = redis.call('HMGET', meta_key, 'sequence', 'wall_us', 'offset_us', 'caps')
  if not (meta[1] and meta[2] and meta[3]) then
    return error(redis.error_reply('INVARIANT the partition has no meta hash: it was never opened, or it was wiped'))
  end

  local wall_us, offset_us = wall_clock_us(meta_key), tonumber(meta[3])
  local step_us = wall_us - meta[2]
  if step_us < 0 or step_us > CLOCK_STORED_AGE_US_MAX then
    local now_us = meta[2] + offset_us
    if step_us > CLOCK_STEP_US_MAX then
      now_us = now_us + math.min(step_us, math.max(CLOCK_STEP_US_MAX, not_after_us - now_us))
    else
      now_us = now_us + math.max(step_us, 0)
    end
    offset_us = now_us - wall_us
    redis.call('HSET', meta_key, 'wall_us', decimal(wall_us), 'offset_us', decimal(offset_us))
  end

  return {
    prefix = meta_key:sub(1, -5), -- 'lastunit:{T}:meta' without 'meta'
    meta_key = meta_key, ledger_key = ledger_key, deadlines_key = deadlines_key,
    sequence = tonumber(meta[1]), caps = meta[4], -- what one caller may hold: see includes/caps.lua
    now_us = wall_us + offset_us, now = decimal(wall_us + offset_us), offset_us = offset_us,
  }
end

-- Is any deadline of the partition past? Answers the common case with one look, and proves the type of the index.
local function is_anything_due(command)
  return redis.call('ZCOUNT', command.deadlines_key, '-inf', command.now) > 0
end

-- Stores what the command moved.
local function end_command(command)
  local wall = command.offset_us == 0 and command.now or decimal(command.now_us - command.offset_us)
  redis.call('HSET', command.meta_key, 'sequence', decimal(command.sequence), 'wall_us', wall)
end
