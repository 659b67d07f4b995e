"""Market trades: numbered aggregate trades, the most recent ones kept for REST."""

from collections import deque
from typing import Any, Final, NamedTuple

from bot.sim.filters import SymbolRules

KEPT: Final = 1_000
FIRST_AGGREGATE: Final = 2_000_000_000
FIRST_TRADE: Final = 5_000_000_000


class Print(NamedTuple):
    """One aggregate trade; price in ticks, quantity in lots."""

    number: int
    first: int
    last: int
    at_ms: int
    price: int
    lots: int
    seller: bool


class Tape:
    """One symbol's trades."""

    __slots__ = ("_aggregate", "_trade", "prints", "rules")

    def __init__(self, rules: SymbolRules) -> None:
        self.rules = rules
        self.prints: deque[Print] = deque(maxlen=KEPT)
        self._aggregate, self._trade = FIRST_AGGREGATE, FIRST_TRADE

    def add(self, at_ms: int, price: int, *, lots: int, seller: bool, trades: int) -> None:
        """Record one market trade.

        Parameters
        ----------
        price, lots
            In ticks and lots.
        seller
            Whether the aggressor sold.
        trades
            Number of trades in the aggregate.
        """
        self._aggregate += 1
        first = self._trade + 1
        self._trade += max(1, trades)
        self.prints.append(Print(self._aggregate, first, self._trade, at_ms, price, lots, seller))

    def event(self, symbol: str) -> dict[str, Any]:
        """Return the last trade as aggTrade."""
        p = self.prints[-1]
        return {"e": "aggTrade", "E": p.at_ms, "s": symbol} | self.row(p) | {"st": 1}

    def row(self, p: Print) -> dict[str, Any]:
        """Return one aggTrades row."""
        qty = f"{self.rules.qty(p.lots):f}"
        return {
            "a": p.number,
            "p": f"{self.rules.price(p.price):f}",
            "q": qty,
            "nq": qty,
            "f": p.first,
            "l": p.last,
            "T": p.at_ms,
            "m": p.seller,
        }

    def trade(self, p: Print) -> dict[str, Any]:
        """Return one aggTrade as a trade row."""
        qty, price = self.rules.qty(p.lots), self.rules.price(p.price)
        return {
            "id": p.last,
            "price": f"{price:f}",
            "qty": f"{qty:f}",
            "quoteQty": f"{qty * price:.2f}",
            "time": p.at_ms,
            "isBuyerMaker": p.seller,
        }
