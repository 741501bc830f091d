-- @include floors
local DELTAS_MAX = 64 -- of a location

local function is_delta_before(one, other)
  if one.occurred_us ~= other.occurred_us then
    return one.occurred_us < other.occurred_us
  elseif one.system ~= other.system then
    return is_before(one.system, other.system)
  elseif one.counter ~= other.counter then
    return one.counter < other.counter
  end
  return is_before(one.of, other.of)
end

local function delta_row(delta)
  return table.concat({
    decimal(delta.occurred_us), delta.system, decimal(delta.counter), decimal(delta.quantity), delta.of,
  }, '\t')
end

-- Takes a delta in; returns by how much on_hand changes: not at all where the count that is believed covers it.
local function take_delta(facts, delta)
  if delta.quantity ~= 0 then
    local rows = facts.deltas
    local at = #rows + 1
    while at > 1 and is_delta_before(delta, parse_delta(rows[at - 1])) do
      at = at - 1
    end
    table.insert(rows, at, delta_row(delta))
    facts.has_new_delta = true
    if #rows > DELTAS_MAX then
      raise_floor(facts, parse_delta(table.remove(rows, 1)))
    end
  end
  return covers_delta(believed_count(facts), delta) and 0 or delta.quantity
end

-- Changes what a delta is by `change`, also of one that was nothing until now; returns by how much on_hand changes.
local function amend_delta(facts, delta, change)
  for i, row in ipairs(facts.deltas) do
    local kept = parse_delta(row)
    if kept.of == delta.of and kept.system == delta.system and kept.counter == delta.counter then
      kept.quantity, facts.has_new_delta = kept.quantity + change, true
      if kept.quantity == 0 then
        table.remove(facts.deltas, i)
      else
        facts.deltas[i] = delta_row(kept)
      end
      return covers_delta(believed_count(facts), delta) and 0 or change
    end
  end
  delta.quantity = change
  return take_delta(facts, delta)
end
