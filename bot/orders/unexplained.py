"""Positions that none of our trades explains: guarded with a stop, never traded (venue notes 5).

A manual trade, a fill for a trade long closed, a lost journal: whatever the cause, the exchange holds a position that the bot did
not plan. It gets one closePosition stop, there are no new entries, and the operator decides; `flatten` closes it.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from bot.core.intents import Alert, Intent
from bot.core.types import Instrument, OrderStatus, OrderType, Side
from bot.orders.bracket import ALREADY_THROUGH, CLOSE_POSITION_EXISTS, Bracket
from bot.orders.ids import IdMaker
from bot.orders.state import ZERO, Ledger, Order, Retry

LEG = 99  # distinguishes their ids from those of trades
# "A closePosition order already exists": it may be a manual stop or only a manual take-profit, and it may disappear. After this
# many rejections it counts as a guard for this long, then ours is retried.
BELIEVED_AFTER = 3
BELIEVED_MS = 30_000


@dataclass(slots=True)
class UnexplainedPositions:
    """Quantities per symbol that belong to no trade, and the orders that guard or close them."""

    ledger: Ledger
    working_type: str
    qty: dict[str, Decimal] = field(default_factory=dict)  # signed
    orders: dict[str, list[Order]] = field(default_factory=dict)
    retry: dict[str, Retry] = field(default_factory=dict)
    leaving: bool = False  # a flatten was requested: close everything unexplained
    through: dict[str, bool] = field(default_factory=dict)  # symbols whose guard was rejected as already passed

    def add(self, symbol: str, signed: Decimal, out: list[Intent], *, why: str) -> None:
        """Add a quantity that no trade explains.

        Parameters
        ----------
        signed
            Signed quantity in base units.
        out
            List that the alert is appended to.
        why
            Cause for the alert.
        """
        total = self.qty.get(symbol, ZERO) + signed
        if total:
            self.qty[symbol] = total
            out.append(Alert("critical", f"{symbol}: {total} that no trade explains ({why}); guarded, entries rest"))
        else:
            self.qty.pop(symbol, None)
            out.append(Alert("warning", f"{symbol}: nothing unexplained is left ({why})"))

    def owns(self, order: Order) -> bool:
        """Return whether the order guards or closes an unexplained position."""
        return any(order is o for o in self.orders.get(order.symbol, ()))

    def advance(
        self,
        instrument: Instrument,
        *,
        symbol_index: int,
        ids: IdMaker,
        level: Decimal,
        bracket: Bracket | None,
        now: int,
        out: list[Intent],
    ) -> None:
        """Keep one guard while the symbol has an unexplained position, none afterwards; close it if `leaving`.

        Parameters
        ----------
        symbol_index
            Index of the symbol in the client id.
        level
            Trigger price of the guard.
        bracket
            The symbol's trade, if any: its catastrophe stop also guards an unexplained position of the same direction.
        now
            Largest exchange time seen, ms.
        out
            List that intents are appended to.
        """
        symbol = instrument.symbol
        qty = self.qty.get(symbol, ZERO)
        orders = self.orders.setdefault(symbol, [])
        retry = self.retry.setdefault(symbol, Retry())
        side = Side.LONG if qty > 0 else Side.SHORT
        for order in orders:
            if order.live or order.handled:
                continue
            order.handled = True
            through = order.status is OrderStatus.REJECTED and order.code in ALREADY_THROUGH
            if through:
                self.through[symbol] = True
            elif order.filled < order.qty or order.status is OrderStatus.REJECTED:
                retry.failed(now)
                if order.code == CLOSE_POSITION_EXISTS and retry.failures > BELIEVED_AFTER:
                    retry.not_before_ms = now + BELIEVED_MS
        if not qty:
            self.through.pop(symbol, None)
            for order in orders:
                self.ledger.cancel(order, now, out)
            if all(o.settled for o in orders):
                orders.clear()
            return
        if now < retry.not_before_ms:
            return
        if self.leaving or self.through.get(symbol):
            if not any(o.live for o in orders if o.role == "xx"):
                orders.append(self._order("xx", symbol_index, ids, instrument, side, abs(qty), None, now, out))
            return
        guarded = any(o.live and o.side is side.exit for o in orders if o.role == "gd")
        backed = bracket is not None and bracket.side is side and any(o.live for o in bracket.guards)
        if not guarded and not backed:
            orders.append(self._order("gd", symbol_index, ids, instrument, side, ZERO, level, now, out))

    def deadlines(self) -> list[int]:
        """Return when a rejected guard is retried, exchange ms."""
        return [r.not_before_ms for s, r in self.retry.items() if s in self.qty and r.not_before_ms]

    def _order(
        self,
        role: str,
        symbol_index: int,
        ids: IdMaker,
        instrument: Instrument,
        side: Side,
        qty: Decimal,
        trigger: Decimal | None,
        now: int,
        out: list[Intent],
    ) -> Order:
        return self.ledger.place(
            ids.next(role, symbol_index, leg=LEG),
            instrument.symbol,
            side=side.exit,
            order_type=OrderType.STOP_MARKET if trigger is not None else OrderType.MARKET,
            qty=min(qty, instrument.market_max_qty),
            role=role,
            now=now,
            out=out,
            trigger=trigger,
            reduce_only=trigger is None,
            close_position=trigger is not None,
            working_type=self.working_type,
        )
