-- @include balances
-- @include reservation

-- What is left of the SKU of each line, a row each.
local function availability_rows(prefix, lines)
  local rows = {}
  for i, line in ipairs(lines) do
    line.balances = line.balances or load_balances(prefix .. 'sku:' .. line.sku)
    rows[i] = remaining_row(line)
  end
  return table.concat(rows, '\n')
end

-- The reply of every verb on a reservation: its record as it is now, or as a remembered answer had it.
local function reservation_reply(status, command, record)
  return {
    status, command.now, record.status, record.agent, record.channel, record.order_id, record.details,
    record.created, record.expires, record.sequence, record.remaining_lines,
    availability_rows(command.prefix, parse_lines(record.remaining_lines)),
  }
end

local function empty_reply(status, command)
  return { status, command.now, '', '', '', '', '', '', '', '', '', '' }
end
