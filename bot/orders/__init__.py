"""Order state machine, entry, bracket, rules of belief, reconciliation."""
