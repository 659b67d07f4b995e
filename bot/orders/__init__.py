"""What an order can become, the entry, the bracket, what may be believed, reconciliation."""
