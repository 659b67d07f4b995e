"""The assumptions of a back-test in words and numbers, printed with every report (strategy 10)."""

from bot.backtest.data import Prepared
from bot.config import Config
from bot.core.times import MINUTE_MS


def assumptions(config: Config, prepared: Prepared) -> dict[str, str]:
    """Return the assumptions by name, as sentences with their figures."""
    b, fees = config.backtest, config.venue.sim
    minutes = prepared.alpha.minutes
    covered = 0.0
    if minutes is not None:
        covered = min(1.0, len(minutes) / (3 * max(1, prepared.stop - prepared.first)))
    through = "through" if b.target_fill == "through" else "to"
    legs = ", ".join(list(prepared.symbols)[1:])
    return {
        "equity": f"{b.initial_equity:g} USDT at the start; sizes follow equity",
        "fees": f"maker {fees.maker_fee:.4%}, taker {fees.taker_fee:.4%} of the notional",
        "spread": f"{b.spread:.4%} of the price, half of it paid by every taker fill (stops excepted: they trigger on prices)",
        "slippage": f"{b.slippage:.4%} of the price on every taker fill, stops included; prices round against us to the tick",
        "latency": f"{b.latency_ms} ms from decision to order; an order sent at a close meets the next bar's open",
        "depth": "unlimited: every taker fill is whole",
        "maker_entry": (
            "fills only if the first 1m bar trades through it, for at most "
            f"{config.entry.maker_timeout_ms / MINUTE_MS:.2%} of that bar's volume; never without 1m bars"
        ),
        "ioc": "at the next open * (1 + spread/2 + slippage), for the quantity that the planned risk still allows",
        "minutes": f"1m bars order events inside {covered:.0%} of the 3m bars; elsewhere the stop comes before the target",
        "targets": (
            f"fill at their price when a bar trades {through} it, as maker; on the bar of a maker entry only if it closes beyond"
        ),
        "stops": "trigger when touched; fill at the trigger, or at the open beyond it on a gap, less slippage",
        "moved_stop": "on the bar of the first target the moved stop is hit only if that bar closes beyond it",
        "choch_and_flip": "leave at the next open with spread and slippage",
        "time_exit": f"at the open of the bar in which {config.trade.timeout_minutes:g} minutes elapse",
        "inside_a_bar": "what follows from a stop or target inside a bar (hedge legs, mostly) fills at that bar's close",
        "funding": "the last settled rate is known; payments -side * qty * open * rate at funding time, legs too",
        "liquidation": "isolated margin by the venue's tiers, before any stop on a gap beyond it",
        "margin": "never refused; sizes keep to the margin rule",
        "end_of_data": "an open trade is valued at the last closes and left out of win rate and profit factor",
        "soft_stop": {
            "count": "counted, does not stop entries",
            "halt": "stops entries for good",
            "rearm_next_day": "stops entries until the next UTC day",
        }[b.soft_stop],
        "warm_up": f"{prepared.first} base bars before the range",
        "hedge": f"{legs}, sized by {config.hedge.weight}" if legs else "none",
        "instruments": "tick, lot, minimum and maintenance tiers as the embedded exchange has them",
    }
