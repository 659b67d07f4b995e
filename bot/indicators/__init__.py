"""Numba kernels of the oscillator, the overlays and SuperTrend AI."""
