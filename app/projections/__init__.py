"""Readers of the ledger that keep state: what the entries add up to, proved and put side by side with the engine."""
