"""Position size: the quantity whose loss at the stop is the planned fraction of equity, cut to margin and venue limits.

Strategy 4 and 7. Every cut is named and the uncut quantity is kept next to it, because on 3m bars the stop is about 0.11 % away
and the notional about seven times equity: at 5x, margin limits the quantity more often than risk does.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bot.core.types import Denied, Instrument, Side, to_decimal

ONE: Final = Decimal(1)
NO_MONEY: Final = "no USDT in the futures wallet: entries rest until there is some"


@dataclass(frozen=True, slots=True)
class Size:
    """A quantity with its risk. Money in quote."""

    qty: Decimal
    risk_quote: Decimal  # qty * |entry - stop|, after cuts and rounding
    uncut_qty: Decimal
    uncut_risk_quote: Decimal  # equity * fraction * throttle
    risk_per_unit: Decimal
    notional: Decimal
    cut: str  # the limit that cut it: margin, max_qty, tier, or ""


def throttle(equity: Decimal, peak: Decimal, *, drawdown_limit: float, floor: float) -> float:
    """Return the share of the base risk that remains in a drawdown: max(floor, 1 - drawdown / limit).

    Parameters
    ----------
    drawdown_limit
        Fraction of the peak.
    floor
        Smallest share.

    >>> throttle(Decimal(960), Decimal(1000), drawdown_limit=0.08, floor=0.5)
    0.5
    >>> round(throttle(Decimal(980), Decimal(1000), drawdown_limit=0.08, floor=0.5), 6)
    0.75
    """
    if peak <= 0:
        return 1.0
    drawdown = float(max((peak - equity) / peak, Decimal(0)))
    return max(floor, 1 - drawdown / drawdown_limit)


def max_notional(instrument: Instrument, leverage: int) -> Decimal | None:
    """Return the largest notional that the venue's tiers allow at `leverage`; None without tiers."""
    if not instrument.tiers:
        return None
    return max((t.cap for t in instrument.tiers if t.max_leverage >= leverage), default=Decimal(0))


def size(
    entry: Decimal,
    stop: Decimal,
    *,
    equity: Decimal,
    available: Decimal,
    fraction: float,
    share: float,
    leverage: int,
    margin_use: float,
    hedge_ratio: float,
    lowest_price: Decimal,
    instrument: Instrument,
) -> Size | Denied:
    """Return the quantity of a plan, or why there is none.

    Parameters
    ----------
    equity, available
        Base of the risk, and wallet available as margin; in quote.
    fraction, share
        Risk per trade as a fraction of equity, and the throttle's share of it.
    margin_use
        Fraction of the available wallet that may be used as margin.
    hedge_ratio
        Planned hedge notional per unit of BTC notional; the legs use the same margin.
    lowest_price
        The lowest price that the entry may be sent at: the exchange's minimum notional is checked there.
    """
    distance = abs(entry - stop)
    if equity <= 0:
        return Denied("no_money", NO_MONEY)
    if distance <= 0:
        return Denied("size", f"no risk to size by: entry {entry}, stop {stop}")
    uncut_risk = equity * to_decimal(fraction) * to_decimal(share)
    uncut = instrument.qty(uncut_risk / distance)
    limits = {
        "margin": leverage * available * to_decimal(margin_use) / (ONE + to_decimal(hedge_ratio)) / entry,
        "max_qty": instrument.max_qty,
    }
    tier = max_notional(instrument, leverage)
    if tier is not None:
        limits["tier"] = tier / entry
    qty, cut = uncut, ""
    for name, limit in limits.items():
        allowed = instrument.qty(limit)
        if allowed < qty:
            qty, cut = allowed, name
    if qty < instrument.min_qty or qty * lowest_price < instrument.min_notional:
        by = f" after the {cut} cut" if cut else ""
        return Denied(
            "min_qty",
            f"quantity {qty}{by} ({qty * lowest_price:.2f} of notional) is below the exchange's minimum of "
            f"{instrument.min_qty} and {instrument.min_notional}",
        )
    return Size(qty, qty * distance, uncut, uncut_risk, distance, qty * entry, cut)


def liquidation_price(side: Side, entry: Decimal, qty: Decimal, *, leverage: int, instrument: Instrument) -> Decimal:
    """Return the liquidation price of an isolated position opened at `entry` with margin notional / leverage.

    Parameters
    ----------
    qty
        Base units, positive.
    instrument
        Gives the maintenance margin tiers.
    """
    return liquidation_at(side, entry, qty, entry * qty / leverage, instrument)


def liquidation_at(side: Side, entry: Decimal, qty: Decimal, wallet: Decimal, instrument: Instrument) -> Decimal:
    """Return the liquidation price of an isolated position with the margin `wallet` (venue notes 2.9).

    Long (entry q - iw - cum) / (q (1 - mmr)), short (entry q + iw + cum) / (q (1 + mmr)), iw the isolated wallet.

    Parameters
    ----------
    qty
        Base units, positive.
    wallet
        Isolated wallet in quote.
    instrument
        Gives the maintenance margin tiers.
    """
    notional = entry * qty
    tier = next((t for t in instrument.tiers if notional <= t.cap), instrument.tiers[-1] if instrument.tiers else None)
    rate, cum = (tier.rate, tier.cum) if tier else (Decimal(0), Decimal(0))
    return (notional - side.sign * (wallet + cum)) / (qty * (ONE - side.sign * rate))
