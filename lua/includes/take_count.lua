-- @include floors
local COUNTS_MAX = 8 -- that stand side by side

-- Has the one seen all that the other has?
local function has_seen(one, other)
  for system, counter in pairs(other.clock) do
    if not one.clock[system] or one.clock[system] < counter then
      return false
    end
  end
  return true
end

-- The counts with a new one among them, or nil where it says nothing new. Of two that have seen the same the smaller
-- stands: they contradict each other, and a unit too few is never sold twice.
local function counts_with(facts, count)
  local counts = {}
  for _, each in ipairs(facts.counts) do
    local is_seen, has_all = has_seen(each, count), has_seen(count, each)
    local is_instead = count.value < each.value or count.value == each.value and outranks(count, each)
    if is_seen and not (has_all and is_instead) then
      return nil
    elseif not has_all then
      counts[#counts + 1] = each
    end
  end
  counts[#counts + 1] = count
  return counts
end

-- What is on hand by a count: what it says, and the deltas that it has not seen.
local function on_hand_by(facts, count)
  local on_hand = count.value
  for _, row in ipairs(facts.deltas) do
    local delta = parse_delta(row)
    on_hand = on_hand + (covers_delta(count, delta) and 0 or delta.quantity)
  end
  return on_hand
end

-- Takes a count in. Returns what is on hand now at a location that had `on_hand`, or nil where the count is stale.
local function take_count(facts, count, on_hand)
  local before = believed_count(facts)
  local counts = not is_below_floor(facts, count) and counts_with(facts, count)
  if not counts then
    return nil
  end
  facts.counts, facts.has_new_count = counts, true
  if #counts > COUNTS_MAX then
    local least = 1
    for i, each in ipairs(counts) do
      least = outranks(counts[least], each) and i or least
    end
    table.remove(counts, least)
  end
  local believed = believed_count(facts)
  if believed == before then
    return on_hand
  end
  return on_hand_by(facts, believed)
end
