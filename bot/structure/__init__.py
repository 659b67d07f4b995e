"""Market structure kernels: Smart Money Concepts and Price Action Concepts."""
