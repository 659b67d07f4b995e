"""The slow, obvious twins of Smart Money Concepts and SuperTrend AI: whole histories in lists, everything looked up anew.

Written from the formulas alone; nothing is shared with the kernels but the meaning of the columns.
"""

import math
import random

import numpy as np
from hypothesis import strategies as st

from bot.core.jit import record
from bot.indicators.volatility import BAR, bar_step

NAN = math.nan
EPS = 1e-10


def nan(x):
    return x != x


# --- markets ---------------------------------------------------------------------------------------------------------


def walk(seed, count, *, tick, start, flat=0.1, filler=0.0, wick=0.05, gap=0.05, body=4):
    """A random market on ticks: bodies, wicks, gaps, flat bars, fillers and now and then an extreme wick."""
    rng = random.Random(seed)
    bars, close = [], start
    low_limit = 1
    for i in range(count):
        kind = rng.random()
        is_filler = i > 0 and rng.random() < filler
        if is_filler or kind < flat:
            o = h = low = c = close
        else:
            o = max(close + (rng.randint(-3 * body, 3 * body) if rng.random() < gap else 0), low_limit + 1)
            c = max(o + rng.randint(-body, body), low_limit)
            long = 20 * body if rng.random() < wick else body
            h = max(o, c) + rng.randint(0, long)
            low = max(min(o, c) - rng.randint(0, long), low_limit)
        close = c
        bars.append((1_700_000_000_000 + 180_000 * i, o * tick, h * tick, low * tick, c * tick, int(is_filler)))
    return bars


@st.composite
def markets(draw, smallest=1, longest=330):
    """Markets of all sorts: tiny and huge prices, few price levels (many ties) or many, quiet or wild."""
    return walk(
        draw(st.integers(0, 2**32)),
        draw(st.integers(smallest, longest)),
        tick=draw(st.sampled_from([0.0001, 0.01, 0.1, 1.0, 2.0**-10, 1000.0])),
        start=draw(st.sampled_from([30, 300, 100_000])),
        flat=draw(st.sampled_from([0.0, 0.1, 0.6])),
        filler=draw(st.sampled_from([0.0, 0.1])),
        wick=draw(st.sampled_from([0.0, 0.05, 0.3])),
        gap=draw(st.sampled_from([0.0, 0.1, 0.5])),
        body=draw(st.sampled_from([1, 3, 20])),
    )


def run(bars, module, reset, step, settings, look=None):
    """Step a family over bars; returns one dict of columns a bar (and what `look` sees in the state)."""
    state, bar = record(module.STATE), record(BAR)
    out = np.zeros(len(module.COLUMNS))
    reset(state, settings)
    rows = []
    for t, o, h, low, c, filler in bars:
        bar_step(bar, t, o, h, low, c, 1.0, 0.5, filler)
        out[:] = -12345.0  # a column that the step forgets shows
        step(state, settings, bar, out)
        row = dict(zip(module.COLUMNS, out.tolist(), strict=True))
        if look is not None:
            row.update(look(state))
        rows.append(row)
    return rows


def same(got, want, rel, absolute):
    if nan(got) or nan(want):
        return nan(got) == nan(want)
    return got == want or abs(got - want) <= absolute + rel * abs(want)


def assert_same(rows, expected, *, rel=0.0, absolute=0.0):
    """Every column of every bar; equal to the bit unless a tolerance is given."""
    assert len(rows) == len(expected)
    for i, (row, want) in enumerate(zip(rows, expected, strict=True)):
        assert row.keys() == want.keys()
        wrong = {name: (row[name], want[name]) for name in want if not same(row[name], want[name], rel, absolute)}
        assert not wrong, (i, wrong)


# --- common formulas -------------------------------------------------------------------------------------------------


def total(values):
    """A plain sum, front to back (the built-in one compensates for rounding since Python 3.12)."""
    out = 0.0
    for x in values:
        out += x
    return out


def true_ranges(bars):
    out = []
    for i, (_, _, h, low, _, _) in enumerate(bars):
        if i == 0:
            out.append(h - low)
        else:
            c1 = bars[i - 1][4]
            out.append(max(h - low, abs(h - c1), abs(low - c1)))
    return out


def wilder(values, n):
    out = []
    for i, x in enumerate(values):
        if i < n - 1:
            out.append(NAN)
        elif i == n - 1:
            out.append(total(values[:n]) / n)
        else:
            out.append((out[-1] * (n - 1) + x) / n)
    return out


# --- Smart Money Concepts --------------------------------------------------------------------------------------------


def walk_list(blocks, is_removed):
    """The removing walk: newest first, the index advances after a removal too."""
    removed = []
    k = 0
    while k < len(blocks):
        if is_removed(blocks[k]):
            removed.append(blocks.pop(k))
        k += 1
    return removed


def legs(bars, n):
    """Per bar: None or ('high'|'low', index of the pivot)."""
    out, leg = [], 0
    for t in range(len(bars)):
        event = None
        if t >= n:
            after = bars[t - n + 1 : t + 1]
            new = leg
            if bars[t - n][2] > max(b[2] for b in after):
                new = 0
            elif bars[t - n][3] < min(b[3] for b in after):
                new = 1
            if new != leg:
                event = ("low" if new == 1 else "high", t - n)
            leg = new
        out.append(event)
    return out


def smc(bars, s, *, limit=100):
    """Every `smc_*` column for every bar; `s` is the configuration section."""
    tr = true_ranges(bars)
    atr = wilder(tr, 200)
    pivots = {"int": legs(bars, s.internal_length), "sw": legs(bars, s.swing_length), "eq": legs(bars, s.equal_length)}
    level = {(k, side): [] for k in pivots for side in ("high", "low")}  # level after step 5 of every bar
    where = {}
    crossed = {}
    bias = {"int": 0, "sw": 0}
    blocks = {"int": [], "sw": []}
    gaps = []
    top = bottom = NAN
    parsed = []
    rows = []
    for t, (time, o, h, low, c, filler) in enumerate(bars):
        row = {}
        quiet = {}

        if s.order_block_filter == "atr":
            vol = atr[t]
        else:
            vol = total(tr[1 : t + 1]) / t if t > 0 else NAN
        wild = h - low - 2 * vol >= -EPS
        parsed.append((low, h, time) if wild else (h, low, time))

        if not nan(top):
            top = max(h, top)
        if not nan(bottom):
            bottom = min(low, bottom)
        row["smc_premium_bottom"] = 0.95 * top + 0.05 * bottom
        row["smc_eq_level"] = (top + bottom) / 2
        row["smc_discount_top"] = 0.95 * bottom + 0.05 * top
        row["smc_strong_high"] = float(bias["sw"] == -1)
        row["smc_strong_low"] = float(bias["sw"] == 1)

        gone = walk_list(gaps, lambda g: low < g["bottom"] if g["bias"] == 1 else h > g["top"])  # noqa: B023
        quiet["smc_fvg_bull_removed_n"] = (sum(g["bias"] == 1 for g in gone), 0)
        quiet["smc_fvg_bear_removed_n"] = (sum(g["bias"] == -1 for g in gone), 0)

        flags = {"high": 0, "low": 0}
        for kind in ("sw", "int", "eq"):
            for side in ("high", "low"):
                level[kind, side].append(level[kind, side][-1] if t else NAN)
            event = pivots[kind][t]
            if event is None:
                continue
            side, at = event
            value = bars[at][2] if side == "high" else bars[at][3]
            if kind == "eq" and s.equal_threshold * atr[t] - abs(level[kind, side][-1] - value) > EPS:
                flags[side] = 1
            if kind == "sw":
                top, bottom = (value, bottom) if side == "high" else (top, value)
            level[kind, side][-1] = value
            where[kind, side] = at
            crossed[kind, side] = False
        quiet["smc_eqh"], quiet["smc_eql"] = (flags["high"], 0), (flags["low"], 0)

        for kind in ("int", "sw"):
            for name, side, sign in (("bull", "high", 1), ("bear", "low", -1)):
                now = level[kind, side]
                fires = False
                if t > 0 and not nan(now[t]) and not nan(now[t - 1]):
                    c1 = bars[t - 1][4]
                    fires = c > now[t] and c1 <= now[t - 1] if sign == 1 else c < now[t] and c1 >= now[t - 1]
                if fires and kind == "int":
                    other = level["sw", side][t]
                    fires = not nan(other) and now[t] != other
                    if s.confluence_filter:
                        wick, quirk = h - max(c, o), min(c, o - low)
                        fires = fires and (wick - quirk > EPS if sign == 1 else quirk - wick > EPS)
                fires = fires and not crossed[kind, side]
                tag = "choch" if bias[kind] == -sign else "bos"
                for event in ("bos", "choch"):
                    quiet[f"smc_{kind}_{name}_{event}"] = (int(fires and tag == event), 0)
                block = {"top": NAN, "bottom": NAN, "time": NAN}
                if fires:
                    crossed[kind, side] = True
                    bias[kind] = sign
                    window = parsed[where[kind, side] : t]
                    if sign == 1:
                        j = min(range(len(window)), key=lambda i: window[i][1])
                    else:
                        j = max(range(len(window)), key=lambda i: window[i][0])
                    block = dict(zip(("top", "bottom", "time"), window[j], strict=True))
                    if len(blocks[kind]) >= limit:
                        blocks[kind].pop()
                    blocks[kind].insert(0, {**block, "bias": sign})
                for edge, value in block.items():
                    quiet[f"smc_{kind}_{name}_ob_new_{edge}"] = (value, NAN)

        for kind in ("int", "sw"):
            up, down = (c, c) if s.order_block_mitigation == "close" else (h, low)
            gone = walk_list(blocks[kind], lambda b: up > b["top"] if b["bias"] == -1 else down < b["bottom"])  # noqa: B023
            quiet[f"smc_{kind}_bull_ob_mitigated_n"] = (sum(b["bias"] == 1 for b in gone), 0)
            quiet[f"smc_{kind}_bear_ob_mitigated_n"] = (sum(b["bias"] == -1 for b in gone), 0)
            row[f"smc_{kind}_ob_count"] = len(blocks[kind])

        new = {"bull": (NAN, NAN), "bear": (NAN, NAN)}
        if t >= 1:
            deltas = [(b[4] - b[1]) / (b[1] * 100) for b in bars[:t]]
            mean = total(map(abs, deltas)) / t
            threshold = 2 * mean if s.fvg_auto_threshold else 0.0
            delta = deltas[-1]
        if t >= 2:
            c1, h2, l2 = bars[t - 1][4], bars[t - 2][2], bars[t - 2][3]
            if low > h2 and c1 > h2 and delta - threshold > EPS:
                new["bull"] = (low, h2)
                gaps.insert(0, {"bias": 1, "top": low, "bottom": h2})
            elif h < l2 and c1 < l2 and -delta - threshold > EPS:
                new["bear"] = (h, l2)
                gaps.insert(0, {"bias": -1, "top": h, "bottom": l2})
        for name, (a, b) in new.items():
            quiet[f"smc_fvg_{name}_new_top"] = (a, NAN)
            quiet[f"smc_fvg_{name}_new_bottom"] = (b, NAN)

        for i in range(5):
            for field in ("top", "bottom", "time", "bias"):
                shown = blocks["int"]
                row[f"smc_int_ob{i}_{field}"] = shown[i][field] if i < len(shown) else NAN
        row["smc_internal_trend"], row["smc_swing_trend"] = bias["int"], bias["sw"]
        row["smc_trailing_top"], row["smc_trailing_bottom"] = top, bottom
        row["smc_ih_level"], row["smc_il_level"] = level["int", "high"][t], level["int", "low"][t]
        row["smc_sh_level"], row["smc_sl_level"] = level["sw", "high"][t], level["sw", "low"][t]
        row["smc_atr200"] = atr[t]
        row.update({name: silent if filler else value for name, (value, silent) in quiet.items()})
        rows.append(row)
    return rows


# --- SuperTrend AI ---------------------------------------------------------------------------------------------------


def gt(a, b):
    return a - b > EPS


def hazen(values, percent):
    s = sorted(values)
    position = min(max(percent / 100 * len(s) - 0.5, 0), len(s) - 1)
    i = math.floor(position)
    f = position - i
    return s[i] if f == 0 else s[i] * (1 - f) + s[i + 1] * f


def kmeans(values, passes=1001):
    """Three lists of indices, by the plain steps with TradingView's ties."""
    centres = [hazen(values, p) for p in (25, 50, 75)]
    clusters = [[], [], []]
    for _ in range(passes):
        clusters = [[], [], []]
        for k, v in enumerate(values):
            distances = [abs(v - c) for c in centres]
            nearest = min(d for d in distances if not nan(d))
            clusters[next(i for i, d in enumerate(distances) if abs(d - nearest) <= EPS)].append(k)
        new = [total(values[k] for k in members) / len(members) if members else NAN for members in clusters]
        if all(abs(a - b) <= EPS or (nan(a) and nan(b)) for a, b in zip(new, centres, strict=True)):
            break
        centres = new
    return clusters


def sta(bars, s, *, last_index=None):
    """Every `sta_*` column for every bar."""
    count = int((s.factor_max - s.factor_min) / s.factor_step) + 1
    fs = [s.factor_min + k * s.factor_step for k in range(count)]
    atr = wilder(true_ranges(bars), s.atr_length)
    alpha = 2 / (s.memory + 1)
    chosen = {"worst": 0, "average": 1, "best": 2}[s.cluster]
    last_index = len(bars) - 1 if last_index is None else last_index
    hl0 = (bars[0][2] + bars[0][3]) / 2
    each = [{"up": hl0, "dn": hl0, "out": NAN, "trend": 0, "perf": 0.0} for _ in fs]
    final = {"up": hl0, "dn": hl0, "os": 0}
    target = index = ama = ts = den = NAN
    moves, rows = [], []
    for t, (_, _, h, low, c, filler) in enumerate(bars):
        c1 = bars[t - 1][4] if t else NAN
        mid = (h + low) / 2
        for f, e in zip(fs, each, strict=True):
            up, dn = mid + atr[t] * f, mid - atr[t] * f
            if gt(c, e["up"]):
                e["trend"] = 1
            elif gt(e["dn"], c):
                e["trend"] = 0
            gained = 0.0
            if c1 > e["out"]:
                gained = c - c1
            elif c1 < e["out"]:
                gained = -(c - c1)
            if gt(e["up"], c1):
                up = min(up, e["up"])
            if gt(c1, e["dn"]):
                dn = max(dn, e["dn"])
            e["perf"] += alpha * (gained - e["perf"])
            e["up"], e["dn"] = up, dn
            e["out"] = dn if e["trend"] == 1 else up

        n = int(s.memory)
        if t > 0:
            moves.append(abs(c - c1))
            if len(moves) == n:
                den = total(moves) / n
            elif len(moves) > n:
                den += 2 / (n + 1) * (moves[-1] - den)

        if s.max_data == 0 or last_index - t <= s.max_data:
            perfs = [e["perf"] for e in each]
            members = kmeans(perfs)[chosen]
            mean = 0.0
            if members:
                target = total(fs[k] for k in members) / len(members)
                mean = max(total(perfs[k] for k in members) / len(members), 0.0)
            index = mean / den if den > 0 else NAN

        up, dn = mid + atr[t] * target, mid - atr[t] * target
        if gt(final["up"], c1):
            up = min(up, final["up"])
        if gt(c1, final["dn"]):
            dn = max(dn, final["dn"])
        before = final["os"] if t else NAN
        now = 1 if gt(c, up) else 0 if gt(dn, c) else final["os"]
        final = {"up": up, "dn": dn, "os": now}
        ts1, ts = ts, dn if now == 1 else up
        ama = ts if nan(ts1) else ama + index * (ts - ama)
        signal = 0 if filler else int(now > before) - int(now < before)
        rows.append(
            {
                "sta_ts": ts,
                "sta_os": now,
                "sta_target_factor": target,
                "sta_perf_idx": index,
                "sta_perf_ama": ama,
                "sta_signal": signal,
            }
        )
    return rows
