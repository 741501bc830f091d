-- @include decimal

-- Remembers the answer of a command on a SKU's stock that came with an Idempotency-Key.
local function remember_stock(command, stock, fingerprint, seen_retention_ms)
  if fingerprint ~= '' then
    redis.call('SET', stock.seen_key, fingerprint .. '\t' .. decimal(command.sequence), 'PX', seen_retention_ms)
  end
end
