-- @include account
-- @include balances

-- What one caller may hold, as the last gateway that opened the partition had it set; nothing says nothing.
local function parse_caps(text)
  local holds, units, share, expiries, cooldown = text:match('^(%d*)\t(%d*)\t(%d*)\t(%d*)\t(%d+)$')
  return {
    open_holds = tonumber(holds), held_units = tonumber(units), sku_share = tonumber(share),
    expired_holds = tonumber(expiries), cooldown_us = tonumber(cooldown),
  }
end

-- The cap that a new hold would break, as a row: cap TAB limit TAB what the account has TAB when to ask again TAB sku;
-- nil where it breaks none. When to ask again is the next deadline of its own, where that may help.
local function broken_cap(command, account, lines)
  local caps, units = parse_caps(command.caps), account.units
  if caps.expired_holds and account.cooling_until_us > command.now_us then
    local limit = decimal(caps.expired_holds)
    return 'expired_holds\t' .. limit .. '\t' .. limit .. '\t' .. decimal(account.cooling_until_us) .. '\t'
  end
  local function row(cap, limit, has, sku)
    local next_deadline = redis.call('ZRANGE', account.holds_key, 0, 0, 'WITHSCORES')[2] or '0'
    return cap .. '\t' .. decimal(limit) .. '\t' .. decimal(has) .. '\t' .. next_deadline .. '\t' .. sku
  end
  if caps.open_holds and account.open_holds >= caps.open_holds then
    return row('open_holds', caps.open_holds, account.open_holds, '')
  end
  for _, line in ipairs(lines) do
    units = units + line.quantity
  end
  if caps.held_units and units > caps.held_units then
    return row('held_units', caps.held_units, account.units, '')
  end
  for _, line in ipairs(caps.sku_share and lines or {}) do
    -- of what could be held if nobody held anything: the last unit is in anybody's share
    local there, has = available_of(line.balances) + line.balances.reserved, account.units_of[line.sku]
    local share = math.max(1, math.ceil(there * caps.sku_share / 10000))
    if has + line.quantity > share then
      return row('sku_share', share, has, line.sku)
    end
  end
  return nil
end

-- Notes that a hold of an account was let expire; what the entry must say of it, as JSON.
local function note_expiry(command, account, expired_us)
  local caps = command.caps and parse_caps(command.caps)
  if not (caps and caps.expired_holds) then
    return ''
  end
  local found = redis.call('HMGET', account.key, 'expired', 'expired_since_us')
  local expired, since_us = tonumber(found[1] or 0), tonumber(found[2] or 0)
  if expired == 0 or expired_us >= since_us + caps.cooldown_us then
    expired, since_us = 0, expired_us
  end
  expired = expired + 1
  if expired >= caps.expired_holds then
    local until_us = math.max(account.cooling_until_us, expired_us + caps.cooldown_us)
    redis.call('HSET', account.key, 'cooling_until_us', decimal(until_us))
    redis.call('HDEL', account.key, 'expired', 'expired_since_us')
    return '{"cooling_until_us":' .. decimal(until_us) .. '}'
  end
  redis.call('HSET', account.key, 'expired', decimal(expired), 'expired_since_us', decimal(since_us))
  return '{"expired":' .. decimal(expired) .. ',"expired_since_us":' .. decimal(since_us) .. '}'
end
