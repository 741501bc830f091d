-- @include begin_command
-- @include append_entry

-- A fact from outside may leave less than is promised. Whole reservations are voided until the rest is enough: held
-- ones, the newest first, then those in their reconciliation window; a payment that runs and a sale are for a person
-- to decide. Which ones is chosen, and their keys proved, before a command's first write. Then the command's own
-- entries come first, and the voids carry its id.

-- The reservations to void once the SKU's on_hand has changed by so much. One whose units of the SKU are all
-- backordered needs no stock and stays. `is_closed` is false where there is more to void than one call may.
local function choose_voids(command, sku, balances, on_hand_change)
  local short = balances.reserved + balances.committed - balances.on_hand - on_hand_change - balances.backordered
  if short <= 0 then
    return { is_closed = true }
  end
  -- @include voids
  return voids_of(command, sku, short)
end

local function write_voids(command, voids)
  if voids.write then
    voids.write(command, voids)
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
