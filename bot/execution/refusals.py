"""Rejected messages: all are counted, few are reported."""

from collections import Counter


class Refusals:
    """Counts by kind; a kind is reported at its first, tenth, hundredth ... occurrence."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def take(self, kind: str) -> int:
        """Count one; return the count of its kind if it is to be reported, else 0.

        >>> refused = Refusals()
        >>> [refused.take("kline") for _ in range(11)]
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0]
        """
        self.counts[kind] += 1
        count = self.counts[kind]
        return count if str(count).strip("0") == "1" else 0
