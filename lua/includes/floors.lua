-- @include facts

local function is_below_floor(facts, count)
  for _, row in ipairs(facts.floors) do
    local system, counter, occurred = row:match('^([^\t]*)\t(%d+)\t(%d+)$')
    local seen = count.clock[system]
    if seen and seen < tonumber(counter) or not seen and count.occurred_us < tonumber(occurred) then
      return true
    end
  end
  return false
end

-- A delta that is forgotten leaves a floor: a count that may not have seen it can no longer be reckoned with.
-- What is on hand by the believed one is known already.
local function raise_floor(facts, delta)
  local counter, occurred_us, at = delta.counter, delta.occurred_us, #facts.floors + 1
  for i, row in ipairs(facts.floors) do
    local system, old_counter, old_occurred = row:match('^([^\t]*)\t(%d+)\t(%d+)$')
    if system == delta.system then
      counter, occurred_us, at = math.max(counter, old_counter), math.max(occurred_us, old_occurred), i
    end
  end
  facts.has_new_floor = true
  facts.floors[at] = delta.system .. '\t' .. decimal(counter) .. '\t' .. decimal(occurred_us)
  local believed, kept = believed_count(facts), {}
  for _, count in ipairs(facts.counts) do
    if count == believed or not is_below_floor(facts, count) then
      kept[#kept + 1] = count
    else
      facts.has_new_count = true
    end
  end
  facts.counts = kept
end
