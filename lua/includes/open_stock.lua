-- @include settle_due
-- @include balances
-- @include sku_reply

-- The common beginning of commands on a SKU's stock: what is due is settled, the SKU loaded; or the reply that ends the
-- command here (too late, more due than one call settles, a repeated request, a SKU that has moved since).
local function open_stock(command, stock, not_after_us, expected_sequence, fingerprint)
  if command.now_us > not_after_us then
    return empty_sku_reply('too_late', command)
  elseif not settle_due(command, { { sku = stock.sku } }) then
    return empty_sku_reply('reclaiming', command)
  end
  redis.call('ZCARD', stock.holds_key)
  redis.call('HLEN', stock.locations_key)
  local seen = fingerprint ~= '' and redis.call('GET', stock.seen_key)
  if seen then
    local first_fingerprint, first_sequence = seen:match('^([^\t]*)\t(%d+)$')
    if first_fingerprint ~= fingerprint or redis.call('EXISTS', stock.sku_key) == 0 then
      return empty_sku_reply('idempotency_conflict', command, first_sequence)
    end
    local reply = sku_reply('replayed', command, stock, '')
    reply[3] = first_sequence
    return reply
  end
  stock.balances = load_balances(stock.sku_key, '')
  stock.sequence = redis.call('HGET', stock.sku_key, 'sequence') or '0'
  local is_expected = stock.balances and (expected_sequence == '*' or expected_sequence == stock.sequence)
  if expected_sequence ~= '' and not is_expected then
    return empty_sku_reply('sequence_mismatch', command, stock.sequence)
  end
  if stock.balances and stock.balances.backordered ~= '0' then
    -- @include backorders
    backorder_of(command, stock.sku, '') -- proves the types of its keys
  end
  return nil
end
