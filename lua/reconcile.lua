#!lua
-- Compares what SKUs have at locations with what each location's authority last said, and corrects what differs.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4..] sku,holds,locations hash,zset,hash quantities and policy, live reservations, what it has where
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] authorities text rows of location TAB source
-- ARGV[3..] sku text 1..512
-- REPLY status now_us sequence skus checked drifts
-- RETURNS too_late reclaiming voiding done
-- COST O(SKUs, their locations and the deltas there), at most 40 SKUs, 200 lines of due reservations, 1,000 holds
--   looked at and 200 lines voided
--
-- An authority's word is its last count that stands, and the deltas that this count has not seen. It is enforced once;
-- what a person or a scan says afterwards stays (`overridden`). `skus` were looked at, `checked` locations of them;
-- `drifts` has a row for each that differed: sku TAB location TAB source TAB on_hand TAB what it is by the authority
-- TAB corrected, overridden or refused TAB sequence. `voiding`: there is more to void of the last SKU. Each correction
-- is a command of its own.

-- @include integer
-- @include settle_due
-- @include correct

-- parse
local meta_key, ledger_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local not_after_us, authorities = integer(ARGV[1], 'not_after_us'), ARGV[2]
local source_of, skus = {}, {}
for location, source in authorities:gmatch('([^\t\n]+)\t([^\n]+)') do
  source_of[location] = source
end
for i = 3, #ARGV do
  skus[#skus + 1] = { sku = ARGV[i] }
end
if #skus == 0 or #skus > 40 or #KEYS ~= 3 + 3 * #skus then
  return redis.error_reply('BADARG 1 to 40 SKUs, three keys each')
end

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local checked, drifts = 0, {}
local function reply(status, done)
  return {
    status, command.now, decimal(command.sequence), decimal(done), decimal(checked), table.concat(drifts, '\n'),
  }
end
if command.now_us > not_after_us then
  return reply('too_late', 0)
elseif not settle_due(command, skus) then
  return reply('reclaiming', 0)
end

-- What an authority says is on hand: nil where none of its counts stands.
local function authority_count(facts, source)
  local last
  for _, count in ipairs(facts.counts) do
    local is_its = count.source == source and (not last or outranks(count, last))
    last = is_its and count or last
  end
  return last, last and on_hand_by(facts, last)
end

-- decide, write
for i, each in ipairs(skus) do
  local stock, is_closed = stock_of(command, each.sku, nil), true
  for _, name in ipairs(counted_locations(command, each.sku)) do
    local source = source_of[name]
    local place = source and is_closed and place_of(command, stock, name, 'shared')
    local count, on_hand
    if place then
      count, on_hand = authority_count(place.facts, source)
      checked = checked + (count and 1 or 0)
    end
    if count and on_hand ~= place.on_hand then
      local outcome, before = 'overridden', decimal(place.on_hand)
      if count.row ~= place.facts.enforced then
        outcome, is_closed = correct(command, stock, place, on_hand, count)
      end
      drifts[#drifts + 1] = table.concat({
        each.sku, name, source, before, decimal(on_hand), outcome, decimal(command.sequence),
      }, '\t')
    end
  end
  if not is_closed then
    return reply('voiding', i)
  end
end
return reply('done', #skus)
