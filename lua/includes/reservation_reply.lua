-- @include balances
-- @include reservation

-- What is left of the SKU of each line, a row each.
local function availability_rows(prefix, lines)
  local rows = {}
  for i, line in ipairs(lines) do
    line.balances = line.balances or load_balances(prefix .. 'sku:' .. line.sku, '')
    rows[i] = remaining_row(line)
  end
  return table.concat(rows, '\n')
end

-- The lines of a record, with what of them no stock covers yet.
local function current_lines(command, record)
  if not record.remaining_lines:find('\t%d+\t[1-9]') then
    return record.remaining_lines
  end
  -- @include backorders
  local lines = parse_lines(record.remaining_lines)
  for _, line in ipairs(lines) do
    if line.backordered > 0 then
      line.backordered = backorder_of(command, line.sku, record.token)
    end
  end
  return format_lines(lines)
end

-- The reply of every verb on a reservation: its record as it is now, or as a remembered answer had it.
local function reservation_reply(status, command, record)
  local lines = record.answered_lines or current_lines(command, record)
  return {
    status, command.now, record.status, record.agent, record.channel, record.order_id, record.details,
    record.created, record.expires, record.sequence, lines, availability_rows(command.prefix, parse_lines(lines)),
  }
end

local function empty_reply(status, command)
  return { status, command.now, '', '', '', '', '', '', '', '', '', '' }
end
