"""Time that a position was not fully covered by stops, on the exchange's clock.

Cover is the sum of live reduce-only stop orders (STOP*, TRAILING*) of the opposite side, or one that closes the
position. A triggered stop counts while its order is working: it is closing.
"""

from decimal import Decimal

from bot.sim.orders import Algo


def is_naked(qty: Decimal, algos: list[Algo], *, step: Decimal) -> bool:
    """Return whether a position of signed `qty` is not fully covered by `algos` (of its symbol)."""
    if not qty:
        return False
    cover = Decimal(0)
    for algo in algos:
        if not (algo.live and algo.stop and algo.buy == (qty < 0)):
            continue
        if algo.close_position:
            return False
        if algo.reduce_only:
            cover += step * (algo.order.left if algo.order is not None else algo.lots)
    return cover < abs(qty)


class NakedTime:
    """Total and longest naked time of one symbol, ms."""

    __slots__ = ("longest", "since", "total")

    def __init__(self) -> None:
        self.total = 0
        self.longest = 0
        self.since: int | None = None

    def update(self, at_ms: int, *, naked: bool) -> None:
        """Record whether the position is naked from now on."""
        if naked and self.since is None:
            self.since = at_ms
        elif not naked and self.since is not None:
            spell, self.since = at_ms - self.since, None
            self.total += spell
            self.longest = max(self.longest, spell)

    def report(self, now_ms: int) -> dict[str, int]:
        """Return total and longest, including a naked period still open."""
        running = 0 if self.since is None else now_ms - self.since
        return {"total": self.total + running, "longest": max(self.longest, running)}
