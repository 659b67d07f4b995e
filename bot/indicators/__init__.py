"""Numba kernels of the Oscillator Matrix, Signals & Overlays and SuperTrend AI."""
