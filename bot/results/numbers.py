"""Format numbers for pages, documents and the terminal."""

import math
from typing import Final

DASH: Final = "\u2013"
MINUS: Final = "\u2212"


def show(value: float | None, form: str = ".2f", unit: str = "") -> str:
    """Format a number by a Python format spec; None, NaN and infinity become a dash.

    >>> show(0.123456, ".1%"), show(None), show(-1.5, "+.2f", " R")
    ('12.3 %', '–', '−1.50 R')
    """
    if value is None or not math.isfinite(value):
        return DASH
    return f"{format(value, form).replace('-', MINUS).replace('%', ' %')}{unit}"
