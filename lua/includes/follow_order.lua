-- @include move_units
-- @include order_of
-- @include allocations

-- The reservations that are sold into an order follow what is heard of it: what the order took back they no longer
-- have, and once all the rest has left they are fulfilled. What they lose is planned before the command's first entry,
-- and stays committed until their own entries: a promise beyond stock that is gone is never covered.

-- Loads them with what they have sold, and proves the types of all keys that following may write.
local function followers(command, order)
  local records = {}
  for _, token in ipairs(order.tokens) do
    local record = load_reservation(command, command.prefix .. 'reservation:' .. token, token)
    if record then
      local is_sold = record.status == 'committed' or record.status == 'fulfilled'
      local lines = is_sold and parse_lines(record.remaining_lines) or {}
      if record.status == 'committed' then
        load_lines(command, record, lines, nil)
        load_allocations(command, record, lines)
      end
      record.units, record.backordered = {}, {}
      for _, line in ipairs(lines) do
        record.units[line.sku], record.backordered[line.sku] = line.quantity, line.backordered
      end
      records[#records + 1] = record
    end
  end
  return records
end

-- Plans what of a SKU they lose, the last one first: what they have beyond what the order wants. Returns how much, and
-- how much of that no stock covers.
local function plan_losses(order, records, sku)
  local line, units = order.lines[sku], 0
  for _, record in ipairs(records) do
    units = units + (record.units[sku] or 0)
  end
  local excess = units - math.max(0, wanted_of(line, line.shipped))
  local left, uncovered = excess, 0
  for i = #records, 1, -1 do
    local record = records[i]
    local lost = record.status ~= 'fulfilled' and math.min(left, record.units[sku] or 0) or 0
    if lost > 0 then
      order.losses[#order.losses + 1] = { record = record, sku = sku, units = lost }
      left, uncovered = left - lost, uncovered + math.min(lost, record.backordered[sku] or 0)
    end
  end
  return excess - left, uncovered
end

local function take_back(command, loss)
  local record = load_reservation(command, loss.record.key, loss.record.token)
  local lines, left = parse_lines(record.remaining_lines), {}
  load_lines(command, record, lines, nil)
  local allocations = load_allocations(command, record, lines)
  for _, line in ipairs(lines) do
    if line.sku == loss.sku then
      give_back(line, loss.units, 'committed')
      append_reservation_entry(command, 'reservation.cancelled', record, line, decimal(loss.units), 'order', '')
      store_balances(command, line, record)
    end
    if line.quantity > 0 then
      left[#left + 1] = line
    end
  end
  if #left > 0 then
    record.remaining_lines = format_lines(left)
    redis.call(
      'HSET', record.key, 'committed_lines', record.committed_lines, 'remaining_lines', record.remaining_lines
    )
  end
  trim_allocations(command, record, allocations, lines, '')
  local is_left = #left > 0
  store_status(command, record, is_left and 'committed' or 'cancelled', not is_left and 'retention_ms')
end

local function fulfil(command, record)
  local lines = parse_lines(record.remaining_lines)
  load_lines(command, record, lines, nil)
  local allocations = load_allocations(command, record, lines)
  for _, line in ipairs(lines) do
    append_reservation_entry(command, 'reservation.fulfilled', record, line, decimal(line.quantity), '', '')
    store_balances(command, line, record)
    line.quantity = 0
  end
  trim_allocations(command, record, allocations, lines, '')
  store_status(command, record, 'fulfilled', nil)
end

-- Those that are not live any more are kept as long as their order, or longer.
local function follow_order(command, order, records)
  for _, loss in ipairs(order.losses) do
    take_back(command, loss)
  end
  local kept_ms = tonumber(redis.call('HGET', command.meta_key, 'committed_retention_ms'))
  kept_ms = decimal(math.max(kept_ms, ORDER_KEPT_MS))
  for _, each in ipairs(records) do
    local status = redis.call('HGET', each.key, 'status')
    if status == 'committed' and order.open == 0 and order.shipped > 0 then
      fulfil(command, load_reservation(command, each.key, each.token))
    end
    if status ~= 'held' and status ~= 'payment_pending' and status ~= 'pending_reconciliation' then
      redis.call('PEXPIRE', each.key, kept_ms)
    end
  end
end
