"""The only room that speaks to the engine: finding it, keys, scripts, commands and the ledger."""
