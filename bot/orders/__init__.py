"""Pure order machines: what an order can become, the entry, the bracket, reconciliation."""
