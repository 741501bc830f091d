-- @include begin_command

-- Expiry needs no timer: every command on a SKU first settles what is due on it, so that no answer depends on when a
-- sweeper ran. Settles what is due on the SKUs of these lines, and in an account if one is to be judged, then a little
-- of what is due elsewhere. Returns false when the bound was met before these were clear. One look at the partition's
-- deadlines answers the common case, that nothing is due.
local SETTLED_LINES_MAX = 200
local SETTLED_ELSEWHERE_LINES_MAX = 4

local function settle_due(command, lines, account)
  if not is_anything_due(command) then
    return true
  end
  -- @include settle_index
  local lines_left = SETTLED_LINES_MAX
  for _, line in ipairs(lines) do
    local settled_lines, is_clear = settle_index(command, command.prefix .. 'holds:' .. line.sku, lines_left)
    if not is_clear then
      return false
    end
    lines_left = lines_left - settled_lines
  end
  if account then
    local _, is_clear = settle_index(command, command.prefix .. 'account_holds:' .. account, lines_left)
    if not is_clear then
      return false
    end
  end
  settle_index(command, command.deadlines_key, SETTLED_ELSEWHERE_LINES_MAX)
  return true
end
