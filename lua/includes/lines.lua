-- @include decimal

-- Lines travel and are stored as text, one a row: sku TAB quantity TAB backordered. No SKU holds a control character.
local function parse_lines(text)
  local lines = {}
  for sku, quantity, backordered in text:gmatch('([^\t\n]+)\t(%d+)\t(%d+)') do
    lines[#lines + 1] = { sku = sku, quantity = tonumber(quantity), backordered = tonumber(backordered) }
  end
  return lines
end

local function format_lines(lines)
  local rows = {}
  for i, line in ipairs(lines) do
    rows[i] = line.sku .. '\t' .. decimal(line.quantity) .. '\t' .. decimal(line.backordered)
  end
  return table.concat(rows, '\n')
end
