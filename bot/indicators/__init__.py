"""Numba kernels: numpy in, numpy out."""
