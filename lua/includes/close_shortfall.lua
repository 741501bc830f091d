-- @include begin_command
-- @include move_units
-- @include backorders

-- A fact from outside may leave less than is promised. Whole reservations are voided until the rest is enough: held
-- ones, the newest first, then those in their reconciliation window; a payment that runs and a sale are for a person
-- to decide. Which ones is chosen, and their keys proved, before a command's first write. Then the command's own
-- entries come first, and the voids carry its id.
local VOIDED_LINES_MAX = 200
local VOID_LOOKS_MAX = 1000

-- Those of a SKU that may be voided, in order: of the holds that end last, if there are more than can be looked at.
local function voidable(command, holds_key)
  local found = {}
  for _, token in ipairs(redis.call('ZREVRANGE', holds_key, 0, VOID_LOOKS_MAX - 1)) do
    local record = redis.call('HMGET', command.prefix .. 'reservation:' .. token, 'status', 'sequence')
    if record[1] == 'held' or record[1] == 'pending_reconciliation' then
      found[#found + 1] = { token = token, is_held = record[1] == 'held', sequence = tonumber(record[2]) }
    end
  end
  table.sort(found, function(one, other)
    if one.is_held ~= other.is_held then
      return one.is_held
    end
    return one.sequence > other.sequence
  end)
  return found
end

-- A reservation's lines, that of the SKU the last: its entry then is the command's last.
local function lines_to_void(record, sku)
  local lines, of_sku = {}, nil
  for _, line in ipairs(parse_lines(record.remaining_lines)) do
    if line.sku == sku then
      of_sku = line
    else
      lines[#lines + 1] = line
    end
  end
  lines[#lines + 1] = of_sku
  return lines
end

-- The reservations to void once the SKU's on_hand has changed by so much. One whose units of the SKU are all
-- backordered needs no stock and stays. `is_closed` is false where there is more to void than one call may.
local function choose_voids(command, sku, balances, on_hand_change)
  local short = balances.reserved + balances.committed - balances.on_hand - on_hand_change - balances.backordered
  local voids, lines_left = { sku = sku, is_closed = true }, VOIDED_LINES_MAX
  for _, found in ipairs(short > 0 and voidable(command, command.prefix .. 'holds:' .. sku) or {}) do
    local record = load_reservation(command, command.prefix .. 'reservation:' .. found.token, found.token)
    local lines = lines_to_void(record, sku)
    local needed = lines[#lines].quantity - backorder_of(command, sku, record.token)
    if needed > 0 and #lines > lines_left then
      voids.is_closed = false
      return voids
    elseif needed > 0 then
      load_lines(command, record, lines, 'reserved')
      voids[#voids + 1] = record
      short, lines_left = short - needed, lines_left - #lines
      if short <= 0 then
        return voids
      end
    end
  end
  return voids
end

local function write_voids(command, voids)
  for _, record in ipairs(voids) do
    local lines = lines_to_void(record, voids.sku)
    load_lines(command, record, lines, 'reserved') -- again: the voids before it freed units of the same SKUs
    for _, line in ipairs(lines) do
      local quantity = decimal(line.quantity)
      give_back(line, line.quantity, 'reserved')
      append_reservation_entry(command, 'reservation.voided', record, line, quantity, 'shortfall', '')
      store_balances(command, line, record)
    end
    drop_deadline(command, record, lines)
    store_status(command, record, 'voided', 'retention_ms')
  end
end

-- Closes what is short of those of a reservation's lines that are to be sold, each SKU a command of its own. Returns
-- if all that could be voided was.
local function close_shortfalls(command, lines, wanted)
  local is_closed = true
  for _, line in ipairs(lines) do
    if (not wanted or wanted[line.sku]) and shortfall_of(line.balances) > 0 then
      local voids = choose_voids(command, line.sku, load_balances(line.sku_key, ''), 0)
      is_closed = is_closed and voids.is_closed
      if #voids > 0 then
        begin_entries(command)
        write_voids(command, voids)
        end_command(command)
      end
    end
  end
  return is_closed
end
