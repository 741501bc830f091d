-- @include decimal

-- Units withheld from sale: the larger of the policy's units and its percentage of what is on hand, rounded up.
-- Worked out when stock arrives, is counted, or the policy changes, and kept in units: selling never changes it.
local function safety_stock_of(on_hand, units, basis_points)
  return decimal(math.max(tonumber(units), math.ceil(math.max(0, on_hand) * basis_points / 10000)))
end
