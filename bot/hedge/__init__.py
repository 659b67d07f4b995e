"""Rolling beta, and the ETH and SOL hedge legs."""
