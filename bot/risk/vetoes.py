"""Vetoes by market conditions at the time of the signal (strategy 3): funding, calendar, spread, price, liquidation.

Each returns None, or a Denied with a code that is counted and a sentence with the values compared.
"""

from decimal import Decimal
from typing import NamedTuple

from bot.core.times import MINUTE_MS
from bot.core.types import Denied, Instrument, Quote, Side
from bot.risk.sizing import liquidation_price


class VetoEvent(NamedTuple):
    """One entry of the calendar."""

    at_ms: int
    name: str
    impact: str


def funding(side: Side, rate: float | None, *, interval_hours: int, limit: float, rule: str) -> Denied | None:
    """Refuse if funding is too expensive or unknown.

    Parameters
    ----------
    rate
        Fraction per payment, positive if longs pay; normalised to 8 hours.
    interval_hours
        Hours between payments.
    limit
        Fraction per 8 hours.
    rule
        `symmetric` refuses only the paying side, `positive_only` refuses a high positive rate for both sides.
    """
    if rate is None:
        return Denied("funding_unknown", "no funding rate is known")
    per_8h = rate * 8 / interval_hours
    paid = per_8h if rule == "positive_only" else side.sign * per_8h
    if paid > limit:
        return Denied("funding", f"funding {per_8h:+.4%} per 8 h against {side.name}, limit {limit:.4%}")
    return None


def blackout(now: int, calendar: tuple[VetoEvent, ...], *, minutes: float, impacts: tuple[str, ...]) -> Denied | None:
    """Refuse close to an event of the calendar.

    Parameters
    ----------
    now
        Exchange ms.
    minutes
        Blackout before and after an event.
    impacts
        Impacts of the events that count.
    """
    for event in calendar:
        if event.impact in impacts and abs(now - event.at_ms) <= minutes * MINUTE_MS:
            away = (event.at_ms - now) / MINUTE_MS
            return Denied("event", f"{event.name} ({event.impact} impact) in {away:.1f} minutes")
    return None


def spread(quote: Quote, limit: float) -> Denied | None:
    """Refuse a spread above `limit`, as a fraction of the mid."""
    wide = float((quote.ask - quote.bid) * 2 / (quote.ask + quote.bid))
    return Denied("spread", f"spread {wide:.4%} > {limit:.4%}") if wide > limit else None


def beyond_stop(side: Side, quote: Quote, stop: Decimal) -> Denied | None:
    """Refuse if the best price of the entry's own side is at or beyond the stop: a post-only order would rest there."""
    near = quote.bid if side is Side.LONG else quote.ask
    if side.sign * (near - stop) <= 0:
        return Denied("beyond_stop", f"price {near} is at or beyond the stop {stop}")
    return None


def liquidation(
    side: Side,
    *,
    entry: Decimal,
    qty: Decimal,
    catastrophe: Decimal,
    risk_per_unit: Decimal,
    gap_r: float,
    leverage: int,
    instrument: Instrument,
) -> Denied | None:
    """Refuse if the liquidation price is nearer than `gap_r` R beyond the catastrophe stop.

    Parameters
    ----------
    entry, qty
        Price paid, and quantity in base units.
    catastrophe
        Price of the catastrophe stop.
    risk_per_unit
        R of one unit, in quote.
    """
    price = liquidation_price(side, entry, qty, leverage=leverage, instrument=instrument)
    gap = side.sign * (catastrophe - price) / risk_per_unit
    if gap < Decimal(str(gap_r)):
        return Denied("liquidation", f"liquidation at {price:.2f}, only {gap:.2f} R beyond the catastrophe stop")
    return None
