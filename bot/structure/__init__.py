"""Numba kernels of market structure: Smart Money Concepts and Price Action Concepts."""
