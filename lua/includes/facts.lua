-- @include decimal
-- @include bytes

-- What the outside has said of a SKU's locations: the hash facts:<sku>, which no reservation ever reads. By location
--
--   counts TAB <location>   rows of value TAB priority TAB occurred_us TAB source TAB a clock as system TAB counter ...
--   deltas TAB <location>   rows of occurred_us TAB system TAB counter TAB quantity TAB what they are of, in that order
--   enforced TAB <location> the count, as a row, that reconciliation last brought the location to
--   floors TAB <location>   rows of system TAB counter TAB occurred_us: the newest delta that is no longer kept
--
-- Counts of which none has seen all that another has stand side by side; one of them is believed. A location has that
-- count's value and the deltas that the count does not cover, whatever order all this was heard in.

local function rows_of(text)
  local rows = {}
  for row in (text or ''):gmatch('[^\n]+') do
    rows[#rows + 1] = row
  end
  return rows
end

local function parse_clock(text)
  local clock = {}
  for system, counter in text:gmatch('([^\t]+)\t(%d+)') do
    clock[system] = tonumber(counter)
  end
  return clock
end

local function parse_count(row)
  local value, priority, occurred, source, clock = row:match('^(%-?%d+)\t(%d+)\t(%d+)\t([^\t]*)\t(.*)$')
  return {
    value = tonumber(value), priority = tonumber(priority), occurred_us = tonumber(occurred), source = source,
    clock = parse_clock(clock), clock_text = clock, row = row,
  }
end

local function parse_delta(row)
  local occurred, system, counter, quantity, of = row:match('^(%d+)\t([^\t]*)\t(%d+)\t(%-?%d+)\t(.*)$')
  return {
    occurred_us = tonumber(occurred), system = system, counter = tonumber(counter), quantity = tonumber(quantity),
    of = of,
  }
end

local function load_facts(command, sku, location)
  local facts = { key = command.prefix .. 'facts:' .. sku, counts = {}, name = location.name }
  local texts = redis.call(
    'HMGET', facts.key, 'counts\t' .. location.name, 'deltas\t' .. location.name, 'floors\t' .. location.name,
    'enforced\t' .. location.name
  )
  for _, row in ipairs(rows_of(texts[1])) do
    facts.counts[#facts.counts + 1] = parse_count(row)
  end
  facts.deltas, facts.floors, facts.enforced = rows_of(texts[2]), rows_of(texts[3]), texts[4]
  location.facts = facts
  return location
end

local function store_rows(facts, kind, rows)
  local field = kind .. '\t' .. facts.name
  if #rows == 0 then
    return redis.call('HDEL', facts.key, field)
  end
  redis.call('HSET', facts.key, field, table.concat(rows, '\n'))
end

-- Stores what was taken in since they were loaded.
local function store_facts(facts)
  if facts.has_new_count then
    local rows = {}
    for i, count in ipairs(facts.counts) do
      rows[i] = count.row
    end
    store_rows(facts, 'counts', rows)
  end
  if facts.has_new_delta then
    store_rows(facts, 'deltas', facts.deltas)
  end
  if facts.has_new_floor then
    store_rows(facts, 'floors', facts.floors)
  end
end

-- Is a count believed before another? By its source's priority, then the later one, then by its source's name; of two
-- that a source says of one moment the smaller.
local function outranks(one, other)
  if one.priority ~= other.priority then
    return one.priority > other.priority
  elseif one.occurred_us ~= other.occurred_us then
    return one.occurred_us > other.occurred_us
  elseif one.source ~= other.source then
    return is_before(other.source, one.source)
  elseif one.value ~= other.value then
    return one.value < other.value
  end
  return is_before(other.clock_text, one.clock_text)
end

local function believed_count(facts)
  local best = facts.counts[1]
  for _, count in ipairs(facts.counts) do
    best = outranks(count, best) and count or best
  end
  return best
end

-- Had whoever counted seen it? Where the clock does not tell, by the time.
local function covers_delta(count, delta)
  local counter = count and count.clock[delta.system]
  if counter then
    return counter >= delta.counter
  end
  return count ~= nil and delta.occurred_us <= count.occurred_us
end
