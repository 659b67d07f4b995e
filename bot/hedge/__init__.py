"""Rolling beta, and the ETH and SOL legs."""
