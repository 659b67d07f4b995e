"""Open choices of the formulas that are not settings of this bot: tried on the export and reported, never applied.

The premium indicators' spec lists, per feature, what the vendor left open. Where a choice changes the kind of formula
(an EMA instead of Wilder's average, another price), it is computed here in plain numpy on the export. A choice that
fits far better than ours, on the training part and on the holdout, is named, so that the formula can be changed for a
reason.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.klines import Klines
from bot.parity.bind import Binding, values_of
from bot.parity.formulas import ema, rma, rsi, sma, source, super_smoother
from bot.parity.ours import Ours
from bot.parity.score import score
from bot.parity.verdict import loss

BETTER: Final = 0.5  # a variant is reported when it leaves at most this fraction of the distance on both parts

Variant = tuple[str, Callable[[], np.ndarray]]


def money_flow(
    bars: Klines,
    length: int,
    smooth: int,
    weight: float,
    *,
    price: str = "hlc3",
    average: str = "sma",
    relative: bool = False,
) -> np.ndarray:
    """Return money flow (premium indicators 3.1) with another price, smoothing, or volume relative to its mean.

    Parameters
    ----------
    bars
        Klines.
    length, smooth
        Windows of the sums and of the smoothing, bars.
    weight
        Weight of the Money Flow Index, 0 to 1.
    price
        Source of the typical price.
    average
        Smoothing: "sma" or "ema".
    relative
        Divide volume by its mean.
    """
    typical = source(bars, price)
    volume = bars.volume
    if relative:
        mean = sma(volume, length)
        volume = np.where(mean > 0, volume / mean, 0.0)
    change = np.diff(typical, prepend=np.nan)
    up = sma(np.where(change > 0, typical * volume, 0.0), length)
    down = sma(np.where(change < 0, typical * volume, 0.0), length)
    span = bars.high - bars.low
    place = np.divide(2 * bars.close - bars.high - bars.low, span, out=np.zeros(len(bars)), where=span > 0)
    total = sma(volume, length)
    with np.errstate(invalid="ignore", divide="ignore"):
        index = np.where(up + down == 0.0, 50.0, 100.0 * up / (up + down))
        chaikin = np.where(total == 0.0, 0.0, sma(place * volume, length) / total)
    raw = weight * index + (1.0 - weight) * (50.0 + 50.0 * chaikin)
    return sma(raw, smooth) if average == "sma" else ema(raw, smooth)


def smart_trail(bars: Klines, period: int, factor: float, smooth: int) -> np.ndarray:
    """Return Smart Trail's line (premium indicators 4.4) with its three numbers separate.

    Parameters
    ----------
    bars
        Klines.
    period
        Window of the mean range, bars.
    factor
        Distance in mean ranges.
    smooth
        Smoothing of the line, bars.
    """
    high, low, close = bars.high.tolist(), bars.low.tolist(), bars.close.tolist()
    mean = np.nan_to_num(sma(bars.high - bars.low, period)).tolist()
    out = np.empty(len(bars))
    wild, upper, lower, side = 0.0, close[0], close[0], 1
    for i in range(len(close)):
        if i == 0:
            true = high[0] - low[0]
        else:
            before = close[i - 1]
            gap_up, gap_down = high[i] - before, before - low[i]
            if low[i] > high[i - 1]:
                gap_up -= 0.5 * (low[i] - high[i - 1])
            if high[i] < low[i - 1]:
                gap_down -= 0.5 * (low[i - 1] - high[i])
            true = max(min(high[i] - low[i], 1.5 * mean[i]), gap_up, gap_down)
        wild += (true - wild) / period
        room = factor * wild
        new_upper, new_lower = close[i] - room, close[i] + room
        if i:
            side = 1 if close[i] > lower else -1 if close[i] < upper else side
            new_upper = max(new_upper, upper) if close[i - 1] > upper else new_upper
            new_lower = min(new_lower, lower) if close[i - 1] < lower else new_lower
        upper, lower = new_upper, new_lower
        out[i] = upper if side == 1 else lower
    return sma(out, smooth)


def _hyperwave(bars: Klines, config: Config) -> Iterator[Variant]:
    o = config.oscillator
    inner = {"sma": sma, "ema": ema, "rma": rma}[o.hyperwave_average]

    def wave(price: str, average: str, length: int) -> np.ndarray:
        values = source(bars, price)
        if o.hyperwave_smoothing == "super":
            values = super_smoother(values, o.hyperwave_smoothing_length)
        return inner(rsi(values, length, average), o.hyperwave_inner)

    for price in ("ohlc4", "close", "hlc3", "hl2"):
        for average in ("rma", "ema"):
            for length in (o.hyperwave_length, *range(5, 16)):
                if (price, average) in ((o.hyperwave_source, "rma"),):
                    continue
                yield (
                    f"RSI of {price} with {average.upper()}, length {length}",
                    lambda p=price, a=average, n=length: wave(p, a, n),  # type: ignore[misc]
                )


def _money_flow(bars: Klines, config: Config) -> Iterator[Variant]:
    o = config.oscillator
    numbers = (o.money_flow_length, o.money_flow_smooth, o.money_flow_weight)
    for price in ("hlc3", "close"):
        for average in ("sma", "ema"):
            for relative in (False, True):
                if (price, average, relative) != ("hlc3", "sma", False):
                    words = f"{price}, {average.upper()} smoothing{', volume relative to its mean' if relative else ''}"
                    yield (
                        words,
                        lambda p=price, a=average, r=relative: money_flow(
                            bars, *numbers, price=p, average=a, relative=r
                        ),  # type: ignore[misc]
                    )


def _smart_trail(bars: Klines, config: Config) -> Iterator[Variant]:
    for period in (10, 13, 14, 20, 28):
        for factor in (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0):
            for smooth in (1, 5, 8, 13):
                yield (
                    f"period {period}, factor {factor:g}, smoothing {smooth}",
                    lambda p=period, f=factor, s=smooth: smart_trail(bars, p, f, s),  # type: ignore[misc]
                )


_TRIED: Final[dict[str, tuple[str, Callable[[Klines, Config], Iterator[Variant]]]]] = {
    "hyperwave": ("om_hyperwave", _hyperwave),
    "money flow": ("om_money_flow", _money_flow),
    "smart trail": ("so_trail", _smart_trail),
}


def best_variant(
    family: str, bindings: Sequence[Binding], ours: Ours, config: Config, train: np.ndarray, holdout: np.ndarray
) -> dict[str, Any] | None:
    """Return the open choice that fits far better than the fitted settings, or None (see the module docstring).

    Parameters
    ----------
    family
        Name of the family.
    bindings
        Bound columns.
    ours
        Our side on the export's bars.
    config
        Configuration with the fitted settings.
    train, holdout
        Masks of the export's bars.
    """
    if family not in _TRIED:
        return None
    feature, variants = _TRIED[family]
    binding = next((b for b in bindings if b.feature == feature), None)
    if binding is None:
        return None
    theirs, table = binding.column.values, ours.with_config(config)

    def distance(values: np.ndarray, part: np.ndarray) -> float:
        return loss(score("plot", values, theirs, ours.at_ms, part), values, theirs, part)

    present = values_of(binding, ours, table)
    before = [distance(present, part) for part in (train, holdout)]
    if before[1] <= 1e-6:
        return None
    best: tuple[float, str, np.ndarray] | None = None
    for words, compute in variants(ours.filled_bars, config):
        values = ours.series(compute())
        found = distance(values, train)
        if best is None or found < best[0]:
            best = (found, words, values)
    if best is None:
        return None
    after = distance(best[2], holdout)
    if best[0] > BETTER * before[0] or after > BETTER * before[1]:
        return None
    return {
        "choice": best[1],
        "train_after": best[0],
        "holdout_before": before[1],
        "holdout_after": after,
        "words": (
            f"could not be fitted by a setting, but {best[1]} lowers the distance on the holdout from {before[1]:.3g} to "
            f"{after:.3g}: this choice is no setting of the bot"
        ),
    }
