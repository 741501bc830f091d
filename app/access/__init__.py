"""Who calls, and how often: keys, tokens, rates. Knows the domain only."""
