"""Words about numbers, for sentences that a person reads."""


def counted(number: int, what: str) -> str:
    """Return a number with the thing counted, in singular or plural.

    >>> counted(1, "gap"), counted(2_500, "file"), counted(0, "row")
    ('1 gap', '2500 files', '0 rows')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
