"""The ETH and SOL legs that hedge a BTC trade, from market order to flat (strategy 8).

The legs open when the BTC entry is complete, sized on its filled quantity, each with one sized stop under the same naked rule as
BTC. They shrink in proportion when BTC scales out and close when BTC is flat, whatever closed it. A stopped leg is not reopened.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bot.config import Hedge as HedgeConfig
from bot.core.intents import Alert, Intent
from bot.core.types import Instrument, OrderStatus, OrderType, Quote, Side, to_decimal
from bot.hedge.beta import HedgePlan, LegPlan
from bot.orders.bracket import Bracket
from bot.orders.ids import IdMaker
from bot.orders.state import ZERO, Ledger


@dataclass(frozen=True, slots=True)
class LegMarket:
    """A leg's market data at its opening; NaN where not ready."""

    instrument: Instrument
    quote: Quote | None
    last: Decimal | None
    supply_top: float  # nearest displayed supply block above the price
    demand_bottom: float
    highest: float  # extremes of the look-back
    lowest: float
    atr: float
    leverage_set: bool

    @property
    def mid(self) -> Decimal | None:
        """Mid price, else the last price."""
        return (self.quote.bid + self.quote.ask) / 2 if self.quote else self.last


def leg_stop(side: Side, market: LegMarket, price: Decimal, config: HedgeConfig) -> float:
    """Return the stop of a leg: beyond its nearest block on the losing side, else beyond the extreme; NaN if unknown.

    For a short leg it is the top of the supply block above the price + 0.9 ATR14, else the highest high + 0.9 ATR14.

    Parameters
    ----------
    side
        Direction of the leg.
    market
        Blocks, extremes and ATR14 of the leg.
    price
        Current price.
    config
        `stop_atr` is the distance in ATR14.
    """
    short = side is Side.SHORT
    block, extreme = (market.supply_top, market.highest) if short else (market.demand_bottom, market.lowest)
    margin, here = side.sign * config.stop_atr * market.atr, float(price)
    if side.sign * (here - block) > 0:  # False for NaN: no block is displayed
        return block - margin
    stop = extreme - margin
    return stop if side.sign * (here - stop) > 0 else math.nan


@dataclass(slots=True)
class Leg:
    """One leg from plan to close."""

    plan: LegPlan
    bracket: Bracket | None = None
    note: str = ""  # why it was skipped, or how it ended
    kept_left: tuple[Any, ...] = ()  # bracket state and alpha share for which there was nothing to shrink

    @property
    def state(self) -> str:
        """State of the leg: planned, skipped, opening, open, closing or closed."""
        if self.bracket is None:
            return "skipped" if self.note else "planned"
        if self.bracket.idle:
            return "closed" if self.bracket.bought else "skipped"
        if self.bracket.closing:
            return "closing"
        return "open" if all(o.settled for o in self.bracket.entries) else "opening"


@dataclass(slots=True)
class Hedger:
    """All legs of one trade. Call `advance` after every event."""

    ledger: Ledger
    ids: IdMaker
    config: HedgeConfig
    plan: HedgePlan
    side: Side  # of the legs: opposite to the trade
    symbols: tuple[str, ...]  # all symbols of the bot, for the index in the id
    naked_limit_ms: int
    working_type: str
    trusting: bool = False  # a back-test, see `Position.trusting`
    legs: list[Leg] = field(default_factory=list)
    opened: bool = False
    net_beta: float = 1.0

    def __post_init__(self) -> None:
        """Create the legs of the plan."""
        self.legs = [Leg(leg, note=leg.skip) for leg in self.plan.legs]

    @property
    def idle(self) -> bool:
        """Whether every leg is flat without live orders."""
        return all([leg.bracket is None or leg.bracket.idle for leg in self.legs])  # noqa: C419

    @property
    def naked_ms(self) -> int:
        """The longest naked spell of any leg."""
        return max((leg.bracket.naked_ms for leg in self.legs if leg.bracket), default=0)

    def find(self, symbol: str) -> Bracket | None:
        """Return the bracket of a symbol's leg."""
        for leg in self.legs:
            if leg.plan.symbol == symbol:
                return leg.bracket
        return None

    def open(
        self, alpha_notional: Decimal, market: Callable[[str], LegMarket | None], now: int, out: list[Intent]
    ) -> None:
        """Open the legs at market, sized on the filled BTC notional.

        Parameters
        ----------
        alpha_notional
            Filled notional of the BTC entry, in quote.
        market
            Returns a symbol's market data, or None.
        now
            Largest exchange time seen, ms.
        out
            List that intents are appended to.
        """
        self.opened = True
        taken = 0.0
        for leg in self.legs:
            if leg.note:
                continue
            known = market(leg.plan.symbol)
            leg.note = self._open(leg, known, alpha_notional, now, out)
            if leg.bracket is not None and known is not None and known.mid is not None:
                notional = leg.bracket.entries[0].qty * known.mid
                taken += float(notional / alpha_notional) * leg.plan.own_beta
        self.net_beta = 1.0 - taken

    def _open(self, leg: Leg, market: LegMarket | None, notional: Decimal, now: int, out: list[Intent]) -> str:
        if market is None or market.mid is None:
            return "no price"
        instrument, mid = market.instrument, market.mid
        if not instrument.trading:
            return "not in normal trading"
        if not market.leverage_set:
            return "leverage is not set"
        qty = min(instrument.qty(notional * to_decimal(leg.plan.ratio) / mid), instrument.market_max_qty)
        if qty < instrument.min_qty or qty * mid < instrument.min_notional:
            return f"quantity {qty} is below the minimum"
        stop = leg_stop(self.side, market, mid, self.config)
        if not math.isfinite(stop) or stop <= 0:
            return f"no stop beyond {mid}: block and extreme are not ready or already passed"
        bracket = Bracket(
            self.ledger,
            self.ids,
            instrument,
            self.symbols.index(leg.plan.symbol),
            self.side,
            self.naked_limit_ms,
            self.working_type,
            ZERO,
            trusting=self.trusting,
        )
        bracket.stop = bracket.away(to_decimal(stop))
        reference = (market.quote.ask if self.side is Side.LONG else market.quote.bid) if market.quote else ZERO
        bracket.entries.append(
            self.ledger.place(
                self.ids.next("hx", bracket.symbol_index),
                instrument.symbol,
                side=self.side.entry,
                order_type=OrderType.MARKET,
                qty=qty,
                role="hx",
                now=now,
                out=out,
                reference=reference,
            )
        )
        leg.bracket = bracket
        return ""

    def advance(
        self,
        at_ms: int,
        now: int,
        *,
        alpha_left: Decimal,
        alpha_gone: bool,
        prices: Callable[[str], tuple[Decimal | None, Quote | None]],
        out: list[Intent],
    ) -> None:
        """Adjust every leg to the BTC trade; see `Bracket.advance` for the times.

        Parameters
        ----------
        alpha_left
            Share of the BTC entry that is still held, 0 to 1.
        alpha_gone
            BTC is flat and will not be entered again: the legs close.
        prices
            Returns fresh price and quote of a symbol, None where there is none.
        """
        for leg in self.legs:
            bracket = leg.bracket
            if bracket is None:
                continue
            price, quote = prices(leg.plan.symbol)
            if quote is not None:
                bracket.reference = quote.bid if bracket.side is Side.LONG else quote.ask
            resting = bracket.resting(now)
            if resting and leg.kept_left == (bracket.kept_rest, alpha_left, alpha_gone):
                continue
            said, opening = len(out), bracket.entries[0]
            if opening.status is OrderStatus.REJECTED and not opening.handled:
                opening.handled = True
                leg.note = f"refused: {opening.code} {opening.reason}"
                out.append(Alert("warning", f"hedge leg {leg.plan.symbol} {leg.note}"))
            if alpha_gone:
                bracket.exit("alpha closed")
            elif self.config.scale_with_alpha and not opening.live and not bracket.closing:
                self._shrink(bracket, alpha_left, now, out)
            bracket.advance(at_ms, now, price, out)
            if bracket.closed_ms:
                leg.note = bracket.exit_reason
            if resting and len(out) == said and bracket.resting(now):
                leg.kept_left = (bracket.kept_rest, alpha_left, alpha_gone)

    @staticmethod
    def _shrink(bracket: Bracket, alpha_left: Decimal, now: int, out: list[Intent]) -> None:
        on_way = sum([o.remaining for o in bracket.exits], ZERO)
        wanted = sum([o.filled for o in bracket.entries], ZERO) * alpha_left
        excess = bracket.instrument.qty(max(bracket.exposed - on_way - wanted, ZERO))
        if excess and excess >= bracket.instrument.min_qty and now >= bracket.exit_retry.not_before_ms:
            bracket.market(excess, "hc", now, out)

    def deadlines(self) -> list[int]:
        """Return the times at which `advance` has something to do without an event, exchange ms."""
        return [due for leg in self.legs if leg.bracket for due in leg.bracket.deadlines()]
