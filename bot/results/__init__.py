"""Figures: what a finished back-test or session amounts to. Each figure has one function, with its formula and unit."""
