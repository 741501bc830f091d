"""Load: what the service does under it, measured beside something named, each run with its proof."""
