"""Conditional orders: stops and targets that wait beside the book and become regular orders at their price.

The life is NEW, TRIGGERING, TRIGGERED, FINISHED (venue notes 2.1); before the trigger there is no margin check, and a
`closePosition` order lives only as long as there is a position that it can close. The mark price here is the last
price, so both working types trigger at the same tick. A trailing stop follows the best price since its activation at a
distance of `callbackRate` per cent.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from bot.sim import entry, payloads
from bot.sim.errors import Refused
from bot.sim.filters import number
from bot.sim.orders import Algo

if TYPE_CHECKING:
    from bot.sim.venue import Venue

MAX_ALGOS: Final = 200  # over all symbols
FIRST_ALGO_ID: Final = 1_000_000_000_000


class AlgoDesk:
    """All conditional orders of the user."""

    def __init__(self, venue: "Venue") -> None:
        self._venue = venue
        self.live: dict[str, dict[int, Algo]] = {symbol: {} for symbol in venue.rules}
        self.by_id: dict[int, Algo] = {}
        self._by_client: dict[str, Algo] = {}
        self._next = FIRST_ALGO_ID

    def open(self, symbol: str) -> list[Algo]:
        """Return a symbol's live conditional orders (triggered ones included), oldest first."""
        return list(self.live[symbol].values())

    def place(self, params: dict[str, str]) -> Algo:
        """Take a conditional order."""
        venue = self._venue
        symbol = venue.symbol_of(params)
        wanted = entry.conditional(params, venue.rules[symbol])
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
        )
        if algo.close_position:
            if venue.account.positions[symbol].sign != -algo.sign:
                raise Refused(-4509)
            for other in self.open(symbol):
                if other.close_position and (other.buy, other.stop) == (algo.buy, algo.stop):
                    raise Refused(-4130)
        if algo.type == "TRAILING_STOP_MARKET":
            mark = venue.mark(symbol)
            if algo.activate and (mark - algo.activate) * algo.sign <= 0:
                raise Refused(-2021)
            self._trail(algo, mark)
        elif self._reached(algo, venue.mark(symbol)):
            raise Refused(-2021)
        self.by_id[algo.algo_id] = algo
        self._by_client[algo.client_id] = algo
        self.live[symbol][algo.algo_id] = algo
        self._tell(algo)
        return algo

    def find(self, params: dict[str, str], *, missing: int = -2013) -> Algo:
        """Return the order that `algoId` or `clientAlgoId` names."""
        if params.get("algoId"):
            algo = self.by_id.get(int(number(params, "algoId") or 0))
        elif params.get("clientAlgoId"):
            algo = self._by_client.get(params["clientAlgoId"])
        else:
            raise Refused(-1102, "algoId")
        if algo is None:
            raise Refused(missing)
        return algo

    def cancel(self, params: dict[str, str]) -> Algo:
        """Cancel an order that has not been triggered; afterwards only its regular order can be cancelled."""
        algo = self.find(params, missing=-2011)
        if algo.status != "NEW":
            raise Refused(-2011)
        self.end(algo, "CANCELED")
        return algo

    def cancel_all(self, symbol: str) -> None:
        """Cancel all that wait."""
        for algo in self.open(symbol):
            if algo.status == "NEW":
                self.end(algo, "CANCELED")

    def watch(self, symbol: str) -> None:
        """Trigger what the new price has reached."""
        price = self._venue.mark(symbol)
        for algo in self.open(symbol):
            if algo.status != "NEW":
                continue
            if algo.type == "TRAILING_STOP_MARKET":
                self._trail(algo, price)
            if self._reached(algo, price):
                self._fire(algo)

    def levels(self, symbol: str, *, rising: bool) -> list[Decimal]:
        """Return the trigger prices that a rising (or falling) price reaches."""
        waiting = (a for a in self.live[symbol].values() if a.status == "NEW" and a.trigger)
        return [a.trigger for a in waiting if (a.buy == a.stop) == rising]

    def end(self, algo: Algo, status: str) -> None:
        """Bring an order to its end."""
        algo.status = status
        self.live[algo.symbol].pop(algo.algo_id, None)
        self._tell(algo)

    def finished(self, algo: Algo) -> None:
        """Note that the regular order of a triggered one is done."""
        if algo.status == "TRIGGERED":
            self.end(algo, "FINISHED")

    def _tell(self, algo: Algo) -> None:
        venue = self._venue
        algo.updated_ms = venue.now_ms
        venue.outbox.append(payloads.algo_event(venue, algo))
        venue.note_naked(algo.symbol)

    def _reached(self, algo: Algo, price: Decimal) -> bool:
        if not algo.trigger:
            return False
        beyond = (price - algo.trigger) * algo.sign  # a buy stop waits above, a sell stop below; targets the other way
        return beyond >= 0 if algo.stop else beyond <= 0

    def _trail(self, algo: Algo, price: Decimal) -> None:
        if algo.activate and not algo.extreme and (price - algo.activate) * algo.sign > 0:
            return
        if not algo.extreme or (algo.extreme - price) * algo.sign > 0:
            algo.extreme = price
            algo.trigger = price * (1 + algo.sign * algo.callback / 100)

    def _fire(self, algo: Algo) -> None:
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
        )
        order = venue.new_order(wanted, kind, lots)
        order.algo, order.orig_type, order.trigger = algo, algo.type, algo.trigger
        order.working_type, order.close_position = algo.working_type, algo.close_position
        order.price_protect = algo.price_protect
        try:
            venue.check(order)
            algo.order, algo.status = order, "TRIGGERED"
            self._tell(algo)
            venue.submit(order)
        except Refused as refused:
            algo.order = None
            algo.reject = refused.text
            self.end(algo, "REJECTED")
