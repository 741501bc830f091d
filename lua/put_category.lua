#!lua
-- Says what SKUs of a category take where they say nothing themselves. They take it when they are next written.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] category hash its defaults
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] details json its name and what it says, for the ledger
-- ARGV[3..] field,value text,text the policy fields it has from now on, no others
-- REPLY status now_us sequence
-- RETURNS too_late stored
-- COST O(1)

-- @include integer
-- @include begin_command
-- @include change_stock
-- @include parse_policy

-- parse
local meta_key, ledger_key, deadlines_key, category_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, details, changes = integer(ARGV[1], 'not_after_us'), ARGV[2], parse_policy(ARGV, 3)
if changes.category then
  return redis.error_reply('BADARG a category is of no category')
end

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
redis.call('HLEN', category_key)

-- decide
if command.now_us > not_after_us then
  return { 'too_late', command.now, '0' }
end

-- write
begin_entries(command)
append_stock_entry(command, 'category.updated', '', no_balances(), '0', nil, 'operator', '', details)
redis.call('DEL', category_key)
for field, value in pairs(changes) do
  if value then
    redis.call('HSET', category_key, field, value)
  end
end
end_command(command)
return { 'stored', command.now, decimal(command.sequence) }
