-- @include decimal

-- The quantities of one SKU as the engine's text, with what bounds a promise; nil when the SKU is unknown. What a
-- command changes it writes back as text; the rest goes into the entry as it came. Reading also proves the key's type
-- before any write. `sequence` and `available` come with the SKU's next entry.
-- `promised` is what the channel has of the SKU, reserved and committed; `channel_limit` how much it may have, if told.
local function load_balances(sku_key, channel)
  local fields = redis.call(
    'HMGET', sku_key, 'on_hand', 'reserved', 'committed', 'backordered', 'safety_stock',
    'low_stock_threshold', 'max_quantity_per_reservation', 'backorder_limit',
    'promised:' .. channel, 'limit:' .. channel
  )
  if not fields[1] then
    return nil
  end
  return {
    on_hand = fields[1], reserved = fields[2], committed = fields[3], backordered = fields[4], safety_stock = fields[5],
    low_stock_threshold = fields[6] or '5', quantity_max = fields[7], backorder_limit = fields[8] or '0',
    promised = fields[9] or '0', channel_limit = fields[10],
  }
end

-- What may still be promised without a backorder; negative when more is promised or withheld than there is.
local function available_of(balances)
  return balances.on_hand + balances.backordered - balances.reserved - balances.committed - balances.safety_stock
end

-- Promises that neither stock nor a backorder stands behind.
local function shortfall_of(balances)
  return math.max(0, balances.reserved + balances.committed - balances.on_hand - balances.backordered)
end

local function shown_available(balances)
  local available = available_of(balances)
  return available > 0 and decimal(available) or '0'
end

-- What is left of a line's SKU: sku TAB available TAB low_stock_threshold.
local function remaining_row(line)
  local balances = line.balances
  return line.sku .. '\t' .. (balances.available or shown_available(balances)) .. '\t' .. balances.low_stock_threshold
end
