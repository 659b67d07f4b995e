"""Figures of a finished back-test or session. Each figure has one function, with its formula and unit."""
