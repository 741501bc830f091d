#!lua
-- Applies what a source outside says of stock: counts, units that came and went, what happened to orders.
--
-- KEYS[1] meta hash the partition's sequence and clock
-- KEYS[2] ledger stream its entries
-- KEYS[3] deadlines zset token -> deadline of every live reservation
-- KEYS[4] seen string which lines of the delivery were applied: rows of number TAB sequence
-- KEYS[5..] sku,holds,locations hash,zset,hash quantities and policy, live reservations, what it has where
-- ARGV[1] not_after_us us engine time past which the command is refused
-- ARGV[2] source text 1..64
-- ARGV[3] delivery_id text empty for a poll, whose lines are applied as often as they come
-- ARGV[4] priority integer 1..3 whose count is believed
-- ARGV[5] deduct_on text sale|pick|pack|ship which event takes units off on_hand and committed
-- ARGV[6] may_create integer 0..1 do counts and receipts create the SKU?
-- ARGV[7] seen_retention_ms ms 1..604800000
-- ARGV[8..] line text fields with TABs between: number, kind, sku, location and its kind, where to and its kind,
--   quantity, occurred_us, system, counter, clock, channel, kind of reference (empty, token, order), reference, details
-- REPLY status now_us sequence results
-- RETURNS too_late reclaiming voiding done
-- COST O(lines, the locations of their SKUs, 64 deltas a location, 64 departures and 100 lines of reservations an
--   order), at most 50 lines, 200 lines of due reservations, 1,000 holds looked at and 200 lines voided
--
-- `results` has a row for each line looked at: number TAB what became of it TAB sequence. `voiding`: there is more to
-- void of the last one's SKU; the lines after it are still to come. Each line is a command of its own.

-- @include update_lines
-- @include settle_due
-- @include apply_fact

local IS_OF_ORDER = { sale = true, pick = true, pack = true, ship = true, cancel = true }

-- parse
local meta_key, ledger_key, deadlines_key, seen_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local not_after_us, source, delivery_id = integer(ARGV[1], 'not_after_us'), ARGV[2], ARGV[3]
local priority, deduct_on = integer(ARGV[4], 'priority', 1, 3), ARGV[5]
local may_create = integer(ARGV[6], 'may_create', 0, 1)
local seen_retention_ms = integer(ARGV[7], 'seen_retention_ms', 1, 604800000)
if source == '' or (source .. delivery_id):find('%c') then
  return redis.error_reply('BADARG a source and the id of its delivery have no control characters')
elseif not DEDUCTS_ON[deduct_on] then
  return redis.error_reply('BADARG deduct_on is sale, pick, pack or ship')
end
local lines = parse_update_lines(KEYS, 5, ARGV, 8, delivery_id)
local delivery = { source = source, id = delivery_id, priority = priority, deduct_on = deduct_on }

-- load
local command = begin_command(meta_key, ledger_key, deadlines_key, not_after_us)
local function reply(status, results)
  return { status, command.now, decimal(command.sequence), table.concat(results, '\n') }
end
if command.now_us > not_after_us then
  return reply('too_late', {})
elseif not settle_due(command, lines) then
  return reply('reclaiming', {})
end
local seen = delivery_id ~= '' and redis.call('GET', seen_key) or ''

-- What a line is about, loaded; its types proved. Nil where nobody knows the SKU.
local function load_stock(line)
  local stock = stock_of(command, line.sku, load_balances(line.sku_key, ''))
  if not stock.balances and may_create == 1 and (line.kind == 'count' or line.kind == 'receive') then
    stock.balances = no_balances()
  end
  if stock.balances and stock.balances.backordered ~= '0' then
    -- @include backorders
    backorder_of(command, line.sku, '')
  end
  return stock.balances and stock
end

-- What a delivery without orders does not need is not made.
local apply_event
local function applier_of(line)
  local is_plain = line.reference_kind == '' and (line.kind == 'ship' or line.kind == 'sale' and deduct_on == 'sale')
  if is_plain or not IS_OF_ORDER[line.kind] then
    return apply_fact
  elseif not apply_event then
    -- @include apply_order_event
    apply_event = apply_order_event
  end
  return apply_event
end

-- decide, write
local results = {}
for _, line in ipairs(lines) do
  local sequence = ('\n' .. seen):match('\n' .. line.number .. '\t(%d+)')
  local status, voids = 'duplicate', { is_closed = true }
  if not sequence then
    local stock = load_stock(line)
    if stock then
      status, voids = applier_of(line)(command, delivery, stock, line)
    else
      status = 'unknown_sku'
    end
    if status == 'applied' then
      end_command(command)
      sequence = decimal(command.sequence)
      seen = seen .. line.number .. '\t' .. sequence .. '\n'
      if delivery_id ~= '' then
        redis.call('SET', seen_key, seen, 'PX', seen_retention_ms)
      end
    end
  end
  results[#results + 1] = line.number .. '\t' .. status .. '\t' .. (sequence or '0')
  if not voids.is_closed then
    return reply('voiding', results)
  end
end
return reply('done', results)
