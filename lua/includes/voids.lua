-- @include begin_command
-- @include move_units
-- @include backorders

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

local function void_all(command, voids)
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
    -- it may be in an order since it was chosen: what made the loss can be news of that
    record.is_of_order = record.is_of_order or redis.call('HEXISTS', record.key, 'has_order') == 1
    store_status(command, record, 'voided', 'retention_ms')
  end
end

-- Chooses what to void of a SKU that is short by so many units.
local function voids_of(command, sku, short)
  local voids, lines_left = { sku = sku, is_closed = true, write = void_all }, VOIDED_LINES_MAX
  for _, found in ipairs(voidable(command, command.prefix .. 'holds:' .. sku)) do
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
