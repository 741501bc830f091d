"""Pure words of the domain: types, states, outcomes, pressure, errors. Imports nothing of ours and no framework."""
