"""Format numbers and lists for messages."""

from collections.abc import Iterable, Sequence
from decimal import Decimal


def counted(number: int, what: str) -> str:
    """Return a number with its noun, in singular or plural.

    >>> counted(1, "gap"), counted(2_500, "file"), counted(0, "row")
    ('1 gap', '2500 files', '0 rows')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def some_of(names: Sequence[str], most: int = 2) -> str:
    """Return the first `most` names as a list, followed by the number of the others.

    >>> some_of(["a", "b"]), some_of(["a", "b", "c", "d"])
    ('a, b', 'a, b and 2 more')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def positions(held: Iterable[tuple[str, Decimal]]) -> str:
    """Return positions as text, by symbol; empty if there are none.

    >>> positions([("BTCUSDT", Decimal("0.025")), ("ETHUSDT", Decimal("-0.103"))])
    'BTCUSDT +0.025, ETHUSDT -0.103'
    """
    return ", ".join(f"{symbol} {qty:+f}" for symbol, qty in held)
