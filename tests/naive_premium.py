"""Oscillator Matrix and Signals & Overlays in slow, plain Python: lists in, lists out, every window summed anew.

Each function takes whole series and returns whole series, so a stage can be fed either with this module's results or with the
kernel's: discrete decisions are then compared exactly, although sums of floats in another order differ in the last digit.
"""

import itertools
import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

NAN = math.nan
Series = Sequence[float]


def mean_of_last(xs: Series, n: int) -> list[float]:
    """Mean of the last n values; NaN until there are n, or while one is NaN."""
    return [math.fsum(xs[t - n + 1 : t + 1]) / n if t >= n - 1 else NAN for t in range(len(xs))]


def sum_of_last(xs: Series, n: int) -> list[float]:
    return [math.fsum(xs[t - n + 1 : t + 1]) if t >= n - 1 else NAN for t in range(len(xs))]


def ema(xs: Series, n: int) -> list[float]:
    """Seeded with the first value that is not NaN."""
    out: list[float] = []
    for x in xs:
        if math.isnan(x):
            out.append(NAN)
        elif not out or math.isnan(out[-1]):
            out.append(x)
        else:
            out.append(out[-1] + 2.0 / (n + 1.0) * (x - out[-1]))
    return out


def rma(xs: Series, n: int) -> list[float]:
    """Wilder's average of the values that are not NaN."""
    out: list[float] = []
    seen, total, value = 0, 0.0, NAN
    for x in xs:
        if not math.isnan(x):
            seen += 1
            total += x
            if seen == n:
                value = total / n
            elif seen > n:
                value = (value * (n - 1) + x) / n
        out.append(value)
    return out


def true_ranges(high: Series, low: Series, close: Series) -> list[float]:
    before = [NAN, *close[:-1]]
    return [
        h - m if math.isnan(c1) else max(h - m, abs(h - c1), abs(m - c1))
        for h, m, c1 in zip(high, low, before, strict=True)
    ]


def super_smoother(xs: Series, n: int) -> list[Decimal]:
    """Ehlers' two-pole filter as published, in sixty digits; before the first value everything was equal to it."""
    a = math.exp(-math.sqrt(2) * math.pi / n)
    c2, c3 = Decimal(2 * a * math.cos(math.sqrt(2) * math.pi / n)), Decimal(-a * a)
    exact = [Decimal(x) for x in xs]
    out: list[Decimal] = []
    with localcontext() as context:
        context.prec = 60
        for t, x in enumerate(exact):
            x1 = exact[t - 1] if t >= 1 else exact[0]
            y1 = out[t - 1] if t >= 1 else exact[0]
            y2 = out[t - 2] if t >= 2 else exact[0]
            out.append((1 - c2 - c3) * (x + x1) / 2 + c2 * y1 + c3 * y2)
    return out


def rsi(xs: Sequence[float | Decimal], n: int) -> list[float]:
    with localcontext() as context:
        context.prec = 60
        changes = [float(b - a) for a, b in itertools.pairwise(xs)]
    gains = [NAN] + [max(change, 0.0) for change in changes]
    losses = [NAN] + [max(-change, 0.0) for change in changes]
    out = []
    for g, q in zip(rma(gains, n), rma(losses, n), strict=True):
        if math.isnan(g):
            out.append(NAN)
        else:
            out.append(50.0 if g + q < 1e-12 else 100.0 * g / (g + q))
    return out


# --- Oscillator Matrix -----------------------------------------------------------------------------------------------


def _mfi(high: Series, low: Series, close: Series, volume: Series, n: int) -> list[float]:
    typical = [(h + m + c) / 3.0 for h, m, c in zip(high, low, close, strict=True)]
    out = []
    for t in range(len(close)):
        if t < n - 1:
            out.append(NAN)
            continue
        window = [k for k in range(t - n + 1, t + 1) if k > 0]
        pos = math.fsum(typical[k] * volume[k] for k in window if typical[k] > typical[k - 1])
        neg = math.fsum(typical[k] * volume[k] for k in window if typical[k] < typical[k - 1])
        out.append(50.0 if pos + neg == 0 else 100.0 * pos / (pos + neg))
    return out


def _close_locations(high: Series, low: Series, close: Series) -> list[float]:
    return [0.0 if h == m else (2.0 * c - h - m) / (h - m) for h, m, c in zip(high, low, close, strict=True)]


def money_flow(
    high: Series, low: Series, close: Series, volume: Series, n: int, smooth: int, weight: float
) -> list[float]:
    mfi = _mfi(high, low, close, volume, n)
    weighted = [x * v for x, v in zip(_close_locations(high, low, close), volume, strict=True)]
    raw = []
    for m, num, den in zip(mfi, sum_of_last(weighted, n), sum_of_last(volume, n), strict=True):
        cmf = 0.0 if den == 0 else num / den
        raw.append(weight * m + (1.0 - weight) * (50.0 + 50.0 * cmf))
    return mean_of_last(raw, smooth)


def taker_money_flow(
    high: Series, low: Series, close: Series, volume: Series, taker: Series, n: int, smooth: int, weight: float
) -> list[float]:
    """Buys minus sells instead of close location times volume, brought to the same rolling standard deviation."""
    mfi = _mfi(high, low, close, volume, n)
    weighted = [x * v for x, v in zip(_close_locations(high, low, close), volume, strict=True)]
    delta = [2.0 * b - v for b, v in zip(taker, volume, strict=True)]
    raw = []
    for t in range(len(close)):
        if t < n - 1:
            raw.append(NAN)
            continue
        ds, ws, vs = (xs[t - n + 1 : t + 1] for xs in (delta, weighted, volume))
        if any(math.isnan(d) for d in ds):
            raw.append(NAN)
            continue
        sd = [math.sqrt(math.fsum((x - math.fsum(xs) / n) ** 2 for x in xs) / n) for xs in (ws, ds)]
        rms = math.sqrt(math.fsum(d * d for d in ds) / n)
        ratio = sd[0] / sd[1] if sd[1] > 1e-6 * rms else 1.0
        total = math.fsum(vs)
        cmf = 0.0 if total == 0 else max(-1.0, min(1.0, ratio * math.fsum(ds) / total))
        raw.append(weight * mfi[t] + (1.0 - weight) * (50.0 + 50.0 * cmf))
    return mean_of_last(raw, smooth)


def thresholds(mf: Series, n: int) -> tuple[list[float], list[float]]:
    above = [x if math.isnan(x) else max(x - 50.0, 0.0) for x in mf]
    below = [x if math.isnan(x) else max(50.0 - x, 0.0) for x in mf]
    return [50.0 + x for x in mean_of_last(above, n)], [50.0 - x for x in mean_of_last(below, n)]


def relative_volume(volume: Series, n: int) -> list[float]:
    return [
        NAN if math.isnan(slow) or slow == 0 else fast / slow
        for fast, slow in zip(mean_of_last(volume, 6), mean_of_last(volume, n), strict=True)
    ]


def overflows(mf: Series, up: Series, down: Series, rv: Series, ratio: float) -> tuple[list[bool], list[bool]]:
    over_up, over_down = [], []
    for t in range(len(mf)):
        before = mf[t - 1] if t else NAN
        over_up.append(mf[t] > up[t] and mf[t] >= before and rv[t] > ratio)
        over_down.append(mf[t] < down[t] and mf[t] <= before and rv[t] > ratio)
    return over_up, over_down


def recently_ended(overflow: Sequence[bool]) -> list[bool]:
    return [not overflow[t] and any(overflow[max(t - 5, 0) : t]) for t in range(len(overflow))]


def hyperwave(
    source: Series, length: int, inner: int, signal: int, *, exponential: bool, average: str = "sma", smoothing: int = 0
) -> tuple[list[float], list[float]]:
    """`smoothing`: period of the filter before the RSI, 0 for none; `average`: kind of the inner average."""
    strength = rsi(super_smoother(source, smoothing) if smoothing else source, length)
    wave = {"sma": mean_of_last, "ema": ema, "rma": rma}[average](strength, inner)
    return wave, ema(wave, signal) if exponential else mean_of_last(wave, signal)


def crosses(a: Series, b: Series) -> tuple[list[bool], list[bool]]:
    up, down = [False], [False]
    for t in range(1, len(a)):
        before, now = a[t - 1] - b[t - 1], a[t] - b[t]
        up.append(before <= 1e-10 and now > 1e-10)
        down.append(before >= -1e-10 and now < -1e-10)
    return up, down


def bullish_divergences(
    wave: Series, low: Series, ends: Sequence[bool], begins: Sequence[bool], sensitivity: int, at_zero: float = 50
) -> list[bool]:
    """Lower low in price, higher low in the wave. `ends`: cross up; `begins`: cross down.

    `at_zero`: the prominence that a sensitivity of 0 would ask for.
    """
    prominence = min(max(at_zero - sensitivity, 5), 48)
    gain = max(0, (at_zero - 10 - sensitivity) / 2)
    out = [False] * len(wave)
    candidate: tuple[int, float, float] | None = None
    reference: tuple[int, float, float] | None = None
    start = next((t for t, x in enumerate(wave) if not math.isnan(x)), len(wave))
    for t in range(start, len(wave)):
        if begins[t]:
            start = t
        if candidate is not None and wave[t] - candidate[1] >= prominence:
            reference, candidate = candidate, None
        if ends[t]:
            hw = min(wave[start : t + 1])
            idx = start + list(wave[start : t + 1]).index(hw)
            price = min(low[start : t + 1])
            if (
                reference is not None
                and 0 < idx - reference[0] <= 100
                and price < reference[2]
                and hw >= reference[1] + gain
            ):
                out[t] = True
                reference = None
            if candidate is None or hw <= candidate[1]:
                candidate = (idx, hw, price)
    return out


def bearish_divergences(
    wave: Series, high: Series, ends: Sequence[bool], begins: Sequence[bool], sensitivity: int, at_zero: float = 50
) -> list[bool]:
    """Higher high in price, lower high in the wave. `ends`: cross down; `begins`: cross up."""
    prominence = min(max(at_zero - sensitivity, 5), 48)
    gain = max(0, (at_zero - 10 - sensitivity) / 2)
    out = [False] * len(wave)
    candidate: tuple[int, float, float] | None = None
    reference: tuple[int, float, float] | None = None
    start = next((t for t, x in enumerate(wave) if not math.isnan(x)), len(wave))
    for t in range(start, len(wave)):
        if begins[t]:
            start = t
        if candidate is not None and candidate[1] - wave[t] >= prominence:
            reference, candidate = candidate, None
        if ends[t]:
            hw = max(wave[start : t + 1])
            idx = start + list(wave[start : t + 1]).index(hw)
            price = max(high[start : t + 1])
            if (
                reference is not None
                and 0 < idx - reference[0] <= 100
                and price > reference[2]
                and hw <= reference[1] - gain
            ):
                out[t] = True
                reference = None
            if candidate is None or hw >= candidate[1]:
                candidate = (idx, hw, price)
    return out


def reversals(
    wave: Series,
    up: Sequence[bool],
    down: Sequence[bool],
    over_up: Sequence[bool],
    over_down: Sequence[bool],
    mf: Series,
    upper: Series,
    lower: Series,
    factor: int,
) -> dict[str, list[bool]]:
    edge = min(20 + 2 * factor, 45)
    n = len(wave)
    out = {name: [False] * n for name in ("minor_up", "minor_down", "major_up", "major_down")}
    free_up: set[int] = set()
    free_down: set[int] = set()
    for t in range(2, n):
        a, b, c = wave[t - 2], wave[t - 1], wave[t]
        if b <= a and c > b and b < 50 - edge:
            out["minor_up"][t] = True
            free_up.add(t)
        if b >= a and c < b and b > 50 + edge:
            out["minor_down"][t] = True
            free_down.add(t)
        near, far = range(t - factor + 1, t + 1), range(max(t - 2 * factor + 1, 0), t + 1)
        if up[t] and free_up & set(near) and (any(over_down[k] for k in far) or mf[t] < lower[t]):
            out["major_up"][t] = True
            free_up.clear()
        if down[t] and free_down & set(near) and (any(over_up[k] for k in far) or mf[t] > upper[t]):
            out["major_down"][t] = True
            free_down.clear()
    return out


def bursts_end(volume: Series, period: int) -> list[bool]:
    """Smoothed volume was highest a bar ago, and stood above twice the mean of the last 35 bars then."""
    length = 35
    smooth = super_smoother(volume, period)
    out = [False] * len(volume)
    for t in range(max(length - 1, 2), len(volume)):
        mean = math.fsum(volume[t - length + 1 : t + 1]) / length
        peak = smooth[t - 1] >= smooth[t - 2] and smooth[t] < smooth[t - 1]
        out[t] = peak and mean > 0 and float(smooth[t - 1]) > 2 * mean
    return out


def confluence_meter(wave: float, signal: float, mf: float, upper: float, lower: float) -> float:
    if any(math.isnan(x) for x in (wave, signal, mf, upper, lower)):
        return NAN
    signs = ((x > 0) - (x < 0) for x in (wave - signal, wave - 50, mf - 50))
    return 50 + 12.5 * (sum(signs) + (mf > upper) - (mf < lower))


# --- Signals & Overlays ----------------------------------------------------------------------------------------------


class SuperTrend:
    """Pine's band rules around a middle price."""

    def __init__(self, crossed: str = "up") -> None:
        self.u = self.lo = self.out = NAN
        self.side = 0
        self.crossed = crossed

    def update(self, middle: float, width: float, c: float, c1: float) -> None:
        up, low = middle + width, middle - width
        self.u = (up if self.u > up else self.u) if c1 < self.u else up
        self.lo = (low if self.lo < low else self.lo) if c1 > self.lo else low
        if c > self.u and c < self.lo:
            self.side = 1 - self.side if self.crossed == "turn" else 1
        elif c > self.u:
            self.side = 1
        elif c < self.lo:
            self.side = 0
        self.out = self.lo if self.side else self.u


def confirmations(
    high: Series,
    low: Series,
    close: Series,
    sensitivity: Series,
    *,
    least: float = 0.5,
    pace: float = 0.05,
    crossed: str = "up",
    strong_length: int = 200,
    repeat: str = "none",
    exit_rule: str = "leaving",
    exit_length: int = 14,
    exit_level: float = 20.0,
) -> dict[str, list[float]]:
    """Signals, state, strength, exits and ratings, bar by bar, with every rule of sections 4.1 and 4.2 spelt out."""
    tr = true_ranges(high, low, close)
    atr10, atr14, average, momentum = rma(tr, 10), rma(tr, 14), ema(close, strong_length), rsi(close, exit_length)
    shadows = [SuperTrend(crossed) for _ in range(5)]
    performance = [0.0] * 5
    trend, factor = SuperTrend(crossed), NAN
    state, strong, age, entry, rating, z, threshold, first = 0, False, NAN, NAN, NAN, NAN, NAN, True
    columns = ("state", "signal", "rating", "exit", "age", "strong", "turn_strong", "factor", "z")
    out: dict[str, list[float]] = {name: [] for name in columns}
    for t, c in enumerate(close):
        signal = turn = leave = 0
        if not math.isnan(atr10[t]):
            c1 = close[t - 1]
            base = 0.25 * sensitivity[t]
            factors = [(least + 0.25 * k) * base for k in range(5)]
            middle = (high[t] + low[t]) / 2.0
            ready = not math.isnan(factor)
            if ready:
                for k in range(5):
                    move = (c - c1) * (1 if c1 > shadows[k].out else -1)
                    performance[k] += 2.0 / 101.0 * (move - performance[k])
                factor += pace * (factors[performance.index(max(performance))] - factor)
            else:
                factor = base
            for k in range(5):
                shadows[k].update(middle, factors[k] * atr10[t], c, c1)
            side = trend.side
            trend.update(middle, factor * atr10[t], c, c1)
            flipped = ready and trend.side != side and t >= 200
            signals = False
            if flipped:
                state = 1 if trend.side else -1
                strong = False
                if first:
                    first = False
                else:
                    strong = c > average[t] if state > 0 else c < average[t]
                    signals = True
            elif not math.isnan(age):
                age += 1
                upper, lower = 50 + exit_level, 50 - exit_level
                m1, m = momentum[t - 1], momentum[t]
                if exit_rule == "leaving":
                    up, down = m1 >= upper and m < upper, m1 <= lower and m > lower
                else:
                    up, down = m1 < upper and m >= upper, m1 > lower and m <= lower
                if state > 0 and up and c > entry:
                    leave = 1
                if state < 0 and down and c < entry:
                    leave = -1
                if not strong and (c > average[t] if state > 0 else c < average[t]):
                    strong, turn = True, 1
                    signals = repeat == "turned"
            if signals:
                signal = state * (2 if strong else 1)
                age, entry = 0, c
                if atr14[t] > 0:
                    z = state * (c - average[t]) / atr14[t]
                    threshold = abs(z) if math.isnan(threshold) else threshold
                    if z == 0:
                        rating = 3
                    else:
                        rating = (4 if z >= threshold else 3) if z > 0 else (2 if z >= -threshold else 1)
                    threshold += 0.1 * (abs(z) - threshold)
                else:
                    z, rating = NAN, 2
        row = (state, signal, rating, leave, age, int(strong), turn, factor if t >= 200 else NAN, z)
        for name, value in zip(columns, row, strict=True):
            out[name].append(value)
    return out


def dominant_cycle(high: Series, low: Series) -> list[float]:
    """Ehlers' smoothed period per bar; prices before the first bar are the first price."""
    n = len(high)
    price = [(h + m) / 2.0 for h, m in zip(high, low, strict=True)]
    price = [p - price[0] for p in price]
    smooth, det, q1, ji, jq = ([0.0] * n for _ in range(5))
    i2, q2, re, im, period, result = ([0.0] * n for _ in range(6))

    def at(xs: Series, t: int) -> float:
        return xs[t] if t >= 0 else 0.0

    def hilbert(xs: Series, t: int, gain: float) -> float:
        return (0.0962 * (at(xs, t) - at(xs, t - 6)) + 0.5769 * (at(xs, t - 2) - at(xs, t - 4))) * gain

    for t in range(n):
        p1 = period[t - 1] if t else 15.0
        gain = 0.075 * p1 + 0.54
        smooth[t] = (4 * at(price, t) + 3 * at(price, t - 1) + 2 * at(price, t - 2) + at(price, t - 3)) / 10
        det[t] = hilbert(smooth, t, gain)
        q1[t] = hilbert(det, t, gain)
        i1 = at(det, t - 3)
        ji[t] = hilbert([0.0] * 3 + det, t, gain)  # of I1, which is det three bars ago
        jq[t] = hilbert(q1, t, gain)
        i2[t] = 0.2 * (i1 - jq[t]) + 0.8 * at(i2, t - 1)
        q2[t] = 0.2 * (q1[t] + ji[t]) + 0.8 * at(q2, t - 1)
        re[t] = 0.2 * (i2[t] * at(i2, t - 1) + q2[t] * at(q2, t - 1)) + 0.8 * at(re, t - 1)
        im[t] = 0.2 * (i2[t] * at(q2, t - 1) - q2[t] * at(i2, t - 1)) + 0.8 * at(im, t - 1)
        angle = math.atan2(im[t], re[t])
        p = 2 * math.pi / angle if angle > 0 else p1
        p = max(0.67 * p1, min(1.5 * p1, p))
        p = max(6.0, min(50.0, p))
        period[t] = 0.2 * p + 0.8 * p1
        result[t] = 0.33 * period[t] + 0.67 * at(result, t - 1)
    return result


def autopilot(cycle: Series, k: float, setting: float) -> list[float]:
    return [setting if t < 60 else min(max(math.floor(k * sp + 0.5), 5), 50) for t, sp in enumerate(cycle)]


def smart_trail(high: Series, low: Series, close: Series, factor: float) -> dict[str, list[float]]:
    m = [0.0 if math.isnan(x) else x for x in mean_of_last([h - x for h, x in zip(high, low, strict=True)], 13)]
    w, tu, td, direction, ex = 0.0, NAN, NAN, 1, NAN
    directions, trails, bands = [], [], []
    for t, c in enumerate(close):
        h, x = high[t], low[t]
        if t == 0:
            tr = h - x
        else:
            c1, h1, l1 = close[t - 1], high[t - 1], low[t - 1]
            hi_lo = min(h - x, 1.5 * m[t])
            h_ref = h - c1 if x <= h1 else (h - c1) - 0.5 * (x - h1)
            l_ref = c1 - x if h >= l1 else (c1 - x) - 0.5 * (l1 - h)
            tr = max(hi_lo, h_ref, l_ref)
        w += (tr - w) / 13
        loss = factor * w
        before, tu1, td1 = direction, tu, td
        if t == 0:
            tu, td = c - loss, c + loss
        else:
            tu = max(c - loss, tu1) if c1 > tu1 else c - loss
            td = min(c + loss, td1) if c1 < td1 else c + loss
            direction = 1 if c > td1 else -1 if c < tu1 else before
        trail = tu if direction == 1 else td
        if t == 0:
            ex = h
        elif direction != before:
            ex = h if direction == 1 else x
        else:
            ex = max(ex, h) if direction == 1 else min(ex, x)
        directions.append(direction)
        trails.append(trail)
        bands.append(ex + (trail - ex) * 0.786)
    return {"direction": directions, "line": mean_of_last(trails, 8), "extremity": mean_of_last(bands, 8)}


def directions_of(line: Series, bands: Series) -> list[int]:
    out = [0]
    for t in range(1, len(line)):
        if line[t] > line[t - 1] + bands[t]:
            out.append(1)
        elif line[t] < line[t - 1] - bands[t]:
            out.append(-1)
        else:
            out.append(out[-1])
    return out


def trend_tracer(close: Series, setting: int, factor: float = 6.0) -> list[float]:
    moves = [NAN] + [abs(b - a) for a, b in itertools.pairwise(close)]
    r = [x * (factor * setting / 3) for x in ema(ema(moves, 22), 43)]
    f = [close[0]]
    for t in range(1, len(close)):
        c = close[t]
        f.append(max(f[-1], c - r[t]) if c > f[-1] else min(f[-1], c + r[t]))
    return f


def trend_catcher(
    close: Series, setting: int, *, length: int = 20, pace: str = "squared", fast: float = 2.0, slow: float = 30.0
) -> list[float]:
    n = length + 5 * setting - 15
    quick, lazy = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0)
    out = [NAN] * min(n, len(close))
    for t in range(n, len(close)):
        if t == n:
            out.append(close[t])
            continue
        path = math.fsum(abs(close[k] - close[k - 1]) for k in range(t - n + 1, t + 1))
        er = abs(close[t] - close[t - n]) / path if path else 0.0
        sc = er * (quick - lazy) + lazy
        out.append(out[-1] + (sc * sc if pace == "squared" else sc) * (close[t] - out[-1]))
    return out


def cloud_midline(high: Series, low: Series, close: Series, length: int, multiple: float) -> list[float]:
    atr = rma(true_ranges(high, low, close), length)
    trend = SuperTrend()
    mx = mn = NAN
    above = False
    out = []
    for t, c in enumerate(close):
        if math.isnan(atr[t]):
            mx = mn = c
            out.append(NAN)
            continue
        trend.update((high[t] + low[t]) / 2.0, multiple * atr[t], c, close[t - 1])
        cross = (c > trend.out) != above
        above = c > trend.out
        mx = max(c, mx) if cross or trend.side == 1 else trend.out
        mn = min(c, mn) if cross or trend.side == 0 else trend.out
        out.append((mx + mn) / 2.0)
    return out


def neo_cloud(
    high: Series, low: Series, close: Series, setting: int, stretch: float = 1.0, width: float = 1.0
) -> tuple[list[float], list[float]]:
    lengths = [max(2, round(stretch * n * setting / 3)) for n in (6, 5, 26)]
    a, b, lag = (cloud_midline(high, low, close, n, m * width) for n, m in zip(lengths, (2.0, 3.0, 4.0), strict=True))
    return [(x + y) / 2.0 for x, y in zip(a, b, strict=True)], lag


def adx(high: Series, low: Series) -> list[float]:
    plus, minus = [NAN], [NAN]
    for t in range(1, len(high)):
        up, down = high[t] - high[t - 1], low[t - 1] - low[t]
        plus.append(up if up > down and up > 0 else 0.0)
        minus.append(down if down > up and down > 0 else 0.0)
    dx = []
    for p, m in zip(rma(plus, 14), rma(minus, 14), strict=True):
        dx.append(NAN if math.isnan(p) else 0.0 if p + m == 0 else 100.0 * abs(p - m) / (p + m))
    return rma(dx, 14)


def trend_strength(high: Series, low: Series) -> list[float]:
    return [100.0 * (1.0 - 2.0 ** (-x / 25.0)) for x in adx(high, low)]
