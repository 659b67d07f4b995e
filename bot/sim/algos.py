"""Conditional orders: stops and targets held outside the book that become regular orders at their trigger price.

The lifecycle is NEW, TRIGGERING, TRIGGERED, FINISHED (venue notes 2.1). Margin is not checked before the trigger, and a
`closePosition` order expires with the position that it can close. The mark price here is the last price, so both
working types trigger at the same tick. A trailing stop follows the best price since its activation at a distance of
`callbackRate` per cent.
"""

import copy
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from bot.sim import entry, events
from bot.sim.errors import Refused
from bot.sim.filters import number
from bot.sim.matching import BookReport
from bot.sim.orders import Algo

if TYPE_CHECKING:
    from bot.sim.venue import Venue

MAX_ALGOS: Final = 200  # across all symbols
FIRST_ALGO_ID: Final = 1_000_000_000_000


class AlgoDesk:
    """All conditional orders of the user."""

    def __init__(self, venue: "Venue") -> None:
        self._venue = venue
        self.live: dict[str, dict[int, Algo]] = {symbol: {} for symbol in venue.rules}
        self.by_id: dict[int, Algo] = {}
        self._by_client: dict[str, Algo] = {}
        self._next = FIRST_ALGO_ID

    def copied(self, venue: "Venue") -> "AlgoDesk":
        """Return a copy bound to `venue`, itself a copy."""
        desk = copy.copy(self)
        desk._venue = venue
        desk.by_id = {algo_id: copy.copy(algo) if algo.live else algo for algo_id, algo in self.by_id.items()}
        for algo in desk.by_id.values():
            if algo.live and algo.order is not None:
                algo.order = venue.orders.get(algo.order.order_id, algo.order)
        desk.live = {symbol: {i: desk.by_id[i] for i in live} for symbol, live in self.live.items()}
        desk._by_client = {name: desk.by_id[algo.algo_id] for name, algo in self._by_client.items()}
        return desk

    def open(self, symbol: str) -> list[Algo]:
        """Return a symbol's live conditional orders (triggered ones included), oldest first."""
        return list(self.live[symbol].values())

    def place(self, params: dict[str, str]) -> Algo:
        """Place a conditional order.

        Raises
        ------
        Refused
            -4108 unless the symbol is trading, -4116 for a client id in use, -4045 at the limit of orders, or an error
            of its parameters, its position or its trigger price.
        """
        venue = self._venue
        symbol = venue.symbol_of(params)
        venue.settings.check_mode(params)
        wanted = entry.conditional(params, venue.rules[symbol], now_ms=venue.now_ms)
        if venue.rules[symbol].status != "TRADING":
            raise Refused(-4108)
        known = self._by_client.get(wanted.client_id)
        if wanted.client_id and known is not None and known.live:
            raise Refused(-4116)
        if sum(len(algos) for algos in self.live.values()) >= MAX_ALGOS:
            raise Refused(-4045)
        self._next += 1
        algo = Algo(
            self._next,
            wanted.client_id or f"web_{self._next}",
            symbol,
            wanted.buy,
            wanted.type,
            wanted.tif,
            wanted.lots,
            wanted.price,
            wanted.trigger,
            wanted.reduce_only,
            wanted.close_position,
            venue.now_ms,
            working_type=wanted.working_type,
            price_protect=wanted.price_protect,
            stp=wanted.stp,
            callback=wanted.callback,
            activate=wanted.activate,
            updated_ms=venue.now_ms,
            price_match=wanted.price_match,
            gtd=wanted.gtd,
        )
        self._admit(algo)
        self.by_id[algo.algo_id] = algo
        self._by_client[algo.client_id] = algo
        self.live[symbol][algo.algo_id] = algo
        self._tell(algo)
        if algo.gtd:
            venue.planned.append((algo.gtd, symbol, lambda: self._run_out(algo)))
        return algo

    def _admit(self, algo: Algo) -> None:
        """Reject an order that duplicates another one, has no position to close or would trigger at once."""
        venue, quirks, symbol = self._venue, self._venue.quirks, algo.symbol
        if algo.guards and venue.account.positions[symbol].sign != -algo.sign:
            if venue.account.positions[symbol].qty or not quirks.close_stop_while_flat:
                raise Refused(-4509)
            algo.early = True
        for other in self.open(symbol):
            both = other.close_position and algo.close_position
            if quirks.one_reduce_only_stop and not algo.close_position and not other.close_position:
                both = both or (algo.reduce_only and other.reduce_only and algo.stop)
            if both and (other.buy, other.stop) == (algo.buy, algo.stop):
                raise Refused(-4130)
        mark = venue.mark(symbol)
        if algo.type == "TRAILING_STOP_MARKET":
            if algo.activate and (mark - algo.activate) * algo.sign <= 0:
                raise Refused(-2021)
            self._trail(algo, mark)
        elif self._reached(algo, mark):
            raise Refused(quirks.immediate_trigger)

    def _run_out(self, algo: Algo) -> None:
        """Expire a GTD order at its goodTillDate."""
        if algo.status == "NEW":
            self.end(algo, "EXPIRED")

    def find(self, params: dict[str, str], *, missing: int = -2013) -> Algo:
        """Return the order named by `algoId` or `clientAlgoId`.

        Raises
        ------
        Refused
            `missing` if the order is unknown or past its retention, -1102 without an id.
        """
        if params.get("algoId"):
            algo = self.by_id.get(int(number(params, "algoId") or 0))
        elif params.get("clientAlgoId"):
            algo = self._by_client.get(params["clientAlgoId"])
        else:
            raise Refused(-1102, "algoId")
        if algo is None or self._forgotten(algo):
            raise Refused(missing)
        return algo

    def _forgotten(self, algo: Algo) -> bool:
        filled = algo.order is not None and algo.order.filled
        kept_ms = self._venue.quirks.fill_memory_ms if filled else self._venue.quirks.order_memory_ms
        return not algo.live and self._venue.now_ms - algo.updated_ms > kept_ms

    def cancel(self, params: dict[str, str]) -> Algo:
        """Cancel an order that has not triggered; afterwards only its regular order can be cancelled.

        Raises
        ------
        Refused
            -2011 if the order is unknown or not NEW.
        """
        algo = self.find(params, missing=-2011)
        if algo.status != "NEW":
            raise Refused(-2011)
        self.end(algo, "CANCELED")
        return algo

    def cancel_all(self, symbol: str) -> None:
        """Cancel all untriggered orders of a symbol."""
        for algo in self.open(symbol):
            if algo.status == "NEW":
                self.end(algo, "CANCELED")

    def watch(self, symbol: str) -> None:
        """Trigger the orders that the new price has reached."""
        price = self._venue.mark(symbol)
        for algo in self.open(symbol):
            if algo.status != "NEW":
                continue
            if algo.type == "TRAILING_STOP_MARKET":
                waiting = not algo.extreme
                self._trail(algo, price)
                if waiting and algo.extreme:
                    self._tell(algo)  # it has just been activated
            if self._reached(algo, price):
                self.fire(algo)

    def levels(self, symbol: str, *, rising: bool) -> list[Decimal]:
        """Return the trigger prices that a rising (or falling) price would reach."""
        waiting = (a for a in self.live[symbol].values() if a.status == "NEW" and a.trigger)
        return [a.trigger for a in waiting if (a.buy == a.stop) == rising]

    def end(self, algo: Algo, status: str) -> None:
        """Put an order into a terminal state."""
        algo.status = status
        self.live[algo.symbol].pop(algo.algo_id, None)
        self._tell(algo)

    def finished(self, algo: Algo) -> None:
        """Finish a triggered order whose regular order is done."""
        if algo.status == "TRIGGERED":
            self.end(algo, "FINISHED")

    def _tell(self, algo: Algo) -> None:
        venue = self._venue
        algo.updated_ms = venue.now_ms
        venue.outbox.append(events.algo_event(venue, algo))
        venue.note_naked(algo.symbol)

    def _reached(self, algo: Algo, price: Decimal) -> bool:
        if not algo.trigger:
            return False
        beyond = (price - algo.trigger) * algo.sign  # a buy stop triggers above, a sell stop below; targets vice versa
        return beyond >= 0 if algo.stop else beyond <= 0

    def _trail(self, algo: Algo, price: Decimal) -> None:
        if algo.activate and not algo.extreme and (price - algo.activate) * algo.sign > 0:
            return
        if not algo.extreme or (algo.extreme - price) * algo.sign > 0:
            algo.extreme = price
            algo.trigger = price * (1 + algo.sign * algo.callback / 100)

    def fire(self, algo: Algo) -> None:
        """Trigger a conditional order: turn it into its regular order."""
        venue = self._venue
        p, rules = venue.account.positions[algo.symbol], venue.rules[algo.symbol]
        algo.status, algo.triggered_ms = "TRIGGERING", venue.now_ms
        self._tell(algo)
        lots = int(abs(p.qty) / rules.step) if algo.close_position else algo.lots
        kind = "MARKET" if algo.type.endswith("MARKET") else "LIMIT"
        wanted = entry.Wanted(
            algo.symbol,
            algo.buy,
            kind,
            "GTC" if algo.tif == "GTE_GTC" else algo.tif,
            lots,
            algo.price,
            algo.reduce_only,
            algo.client_id,
            False,
            stp=algo.stp,
            price_match=algo.price_match,
            gtd=algo.gtd,
        )
        try:
            order = venue.new_order(wanted, kind, lots)
        except Refused as refused:  # no price for its priceMatch
            algo.reject = refused.text
            self.end(algo, "REJECTED")
            return
        order.algo, order.orig_type, order.trigger = algo, algo.type, algo.trigger
        order.working_type, order.close_position = algo.working_type, algo.close_position
        order.price_protect = algo.price_protect
        try:
            venue.check(order)
            algo.order, algo.status = order, "TRIGGERED"
            self._tell(algo)
            venue.submit(order)
        except Refused as refused:
            if refused.code == -4118 and venue.quirks.refused_trigger_expires:
                algo.order, algo.status = order, "TRIGGERED"
                self._tell(algo)
                venue.report(BookReport("NEW", order))
                venue.books[order.symbol].expire(order, "4")
                return
            algo.order = None
            algo.reject = refused.text
            self.end(algo, "REJECTED")
