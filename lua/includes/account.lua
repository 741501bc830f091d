-- @include decimal

-- What a caller holds now, kept while caps are set. A reservation that is in an account names it (`agent:<agent>`, or
-- `holder:<holder>` of a key that is bound to no agent), so that what is taken off is what was put on, whatever is set
-- by then. The live holds stand beside it by deadline: a command that could be refused settles the due ones first.
--
--   units              what it holds, in all its reservations that are open
--   units TAB <sku>    and of one SKU
--   expired            holds that it let expire since expired_since_us, once there was one
--   cooling_until_us   until when it may hold nothing new, once it let too many expire
local ACCOUNT_KEPT_MS = 86400000 -- of what is remembered of one that holds nothing

-- Loads an account with what it holds of these lines' SKUs, and proves the types of its keys.
local function load_account(command, name, lines)
  local fields = { 'units', 'cooling_until_us' }
  for i, line in ipairs(lines) do
    fields[i + 2] = 'units\t' .. line.sku
  end
  local account = {
    name = name, key = command.prefix .. name, holds_key = command.prefix .. 'account_holds:' .. name,
  }
  local found = redis.call('HMGET', account.key, unpack(fields)) -- of 100 lines at most
  account.units, account.cooling_until_us, account.units_of = tonumber(found[1] or 0), tonumber(found[2] or 0), {}
  for i, line in ipairs(lines) do
    account.units_of[line.sku] = tonumber(found[i + 2] or 0)
  end
  account.open_holds = redis.call('ZCARD', account.holds_key)
  return account
end

-- Stores what it holds once so many units of each line's SKU came (sign 1) or went (sign -1).
local function move_account(account, lines, sign)
  local kept, emptied = {}, {}
  for _, line in ipairs(lines) do
    local field, units = 'units\t' .. line.sku, account.units_of[line.sku] + sign * line.quantity
    account.units = account.units + sign * line.quantity
    if units > 0 then
      kept[#kept + 1], kept[#kept + 2] = field, decimal(units)
    else
      emptied[#emptied + 1] = field
    end
  end
  if account.units > 0 then
    redis.call('HSET', account.key, 'units', decimal(account.units), unpack(kept))
  else
    emptied[#emptied + 1] = 'units'
  end
  if #emptied > 0 then
    redis.call('HDEL', account.key, unpack(emptied))
  end
end

-- A new reservation is put into its account.
local function enter_account(account, token, expires, lines)
  if account.units == 0 then
    redis.call('PERSIST', account.key)
  end
  move_account(account, lines, 1)
  redis.call('ZADD', account.holds_key, expires, token)
end

-- A reservation that is open no more leaves it: with these lines, as it had them.
local function leave_account(account, token, lines)
  move_account(account, lines, -1)
  redis.call('ZREM', account.holds_key, token)
  if account.units == 0 then
    redis.call('PEXPIRE', account.key, ACCOUNT_KEPT_MS)
  end
end
