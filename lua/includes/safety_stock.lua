-- @include decimal

-- Units withheld from sale: the larger of the policy's units and its percentage of what is on hand, rounded up.
-- Worked out when stock arrives, is counted, or the policy changes, and kept in units: selling never changes it.
-- The percentage is taken of whole ten thousands and of the rest, because on_hand * basis_points may have more digits
-- than a double.
local function safety_stock_of(on_hand, units, basis_points)
  local stock = math.max(0, on_hand)
  local rest = stock % 10000
  local share = (stock - rest) / 10000 * basis_points + math.ceil(rest * basis_points / 10000)
  return decimal(math.max(tonumber(units), share))
end
