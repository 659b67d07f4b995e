"""Market and account faults: gaps, thin books, liquidation, ADL, settlement, changed filters and funding.

They act through the same calls as the market itself: a gap is a tick, a liquidation is a fill, a filter change is a new
exchangeInfo. The recorded bars are unaffected: a gap is in the ticks, the book and the current bar, and the closed bar
is reported as it was recorded.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.sim import forced
from bot.sim.errors import Refused
from bot.sim.faults import Fault
from bot.sim.filters import NUMBER
from bot.sim.funding import FundingSchedule

if TYPE_CHECKING:
    from bot.sim.server import Exchange


class MarketFaults:
    """Executes market and account faults."""

    def __init__(self, exchange: "Exchange") -> None:
        self._x = exchange

    def symbols(self, fault: Fault, *, held: bool = False) -> list[str]:
        """Return the symbols that a fault affects: its own, or all; with `held` only those with a position."""
        venue, named = self._x.venue, fault.get("symbol")
        found = [named] if named else list(venue.rules)
        return [s for s in found if s in venue.rules and (not held or venue.account.positions[s].qty)]

    def strike(self, fault: Fault) -> None:
        """Execute a fault now."""
        x = self._x
        venue = x.venue
        venue.now_ms = now = x.clock.now_ms()
        match fault.fault:
            case "clock_drift":
                x.drift_ms = int(fault.get("offset"))
                return
            case "price_gap" | "thin_book":
                for symbol in self.symbols(fault):
                    if fault.fault == "price_gap":
                        x.market.gap(symbol, 1 + float(fault.get("percent")) / 100, now + fault.span_ms)
                    else:
                        x.market.thin(symbol, float(fault.get("share")), now + fault.span_ms)
            case "liquidation" | "adl":
                for symbol in self.symbols(fault, held=True):
                    if fault.fault == "liquidation":
                        forced.liquidate(venue, symbol)
                    else:
                        forced.deleverage(venue, symbol, float(fault.get("share")))
            case "settlement":
                for symbol in self.symbols(fault):
                    forced.settle(venue, symbol)
                    venue.change_rules(symbol, replace(venue.rules[symbol], status="SETTLING"))
            case "symbol_status":
                for symbol in self.symbols(fault):
                    venue.change_rules(symbol, replace(venue.rules[symbol], status=fault.get("status")))
                    if fault.get("status") != "TRADING":
                        venue.planned.append((now + fault.span_ms, symbol, self._open_again(symbol)))
            case "filter_change":
                for symbol in self.symbols(fault):
                    wanted = {name: fault.get(name) for name in ("tick", "step", "min_notional")}
                    venue.change_rules(symbol, venue.rules[symbol].changed(**wanted))
            case "funding_interval":
                rate = fault.get("funding_rate")
                for symbol in self.symbols(fault):
                    x.funding[symbol].change(now, hours=fault.get("hours"), rate=float(rate) if rate else None)
        for symbol in venue.rules:
            x.market.follow_up(symbol)

    def check(self, fault: Fault) -> None:
        """Reject an impossible filter or funding change before anything is enabled.

        Raises
        ------
        Refused
            -1130 if the filter or rate is invalid, or funding follows the live exchange.
        """
        if fault.fault == "filter_change":
            for symbol in self.symbols(fault):
                self._x.venue.rules[symbol].changed(
                    **{name: fault.get(name) for name in ("tick", "step", "min_notional")}
                )
        if fault.fault == "funding_interval":
            if not all(isinstance(self._x.funding[s], FundingSchedule) for s in self.symbols(fault)):
                raise Refused(-1130, text="funding is the live exchange's here and cannot be changed")
            if fault.get("funding_rate") and not NUMBER.fullmatch(fault.get("funding_rate")):
                raise Refused(-1130, text='funding_rate must be a fraction such as "0.0001"')

    def _open_again(self, symbol: str) -> Callable[[], None]:
        venue = self._x.venue
        return lambda: venue.change_rules(symbol, replace(venue.rules[symbol], status="TRADING"))
