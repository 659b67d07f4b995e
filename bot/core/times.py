"""Durations in ms, and formatting of timestamps."""

from datetime import UTC, datetime
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


def utc(at_ms: int, *, seconds: bool = False) -> str:
    """Format epoch ms as a UTC date and time.

    >>> utc(1_700_000_000_000), utc(1_700_000_000_000, seconds=True)
    ('2023-11-14 22:13', '2023-11-14 22:13:20')
    """
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
