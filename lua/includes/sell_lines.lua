-- @include move_units

-- Writes what of a reservation's lines is sold, or kept for a window of reconciliation, and gives the rest back.
-- Returns the lines sold and those of which something went back. `news` is of the order that they are sold into: it may
-- have heard of any of them already.
local function sell_lines(command, record, lines, wanted, kind, details, news)
  local sold, unsold, is_sale = {}, {}, kind == 'reservation.committed'
  for _, line in ipairs(lines) do
    local quantity = wanted and (wanted[line.sku] or 0) or line.quantity
    line.returned = line.quantity - quantity
    if news then
      news.sell(news, line, is_sale and quantity or 0)
    elseif is_sale then
      sell(line, quantity)
    end
    if quantity > 0 then
      append_reservation_entry(command, kind, record, line, decimal(quantity), '', details)
      sold[#sold + 1] = line
    end
  end
  for _, line in ipairs(lines) do
    if line.returned > 0 then
      give_back(line, line.returned, 'reserved')
      append_reservation_entry(command, 'reservation.released', record, line, decimal(line.returned), '', details)
      unsold[#unsold + 1] = line
    end
    store_balances(command, line, record)
  end
  return sold, unsold
end
