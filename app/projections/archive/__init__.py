"""The archive: the ledger in SQL, for as long as it is wanted, with views that are kept as entries arrive."""
