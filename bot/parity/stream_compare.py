"""`compare` on a stream of alerts: compare what fired with what fires here, per feature, with chance levels and intervals.

On a complete period absence counts: precision, recall and F1 on the bar and within 1 bar, next to those of the same
alerts shifted in time (the highest of many shifts, and their 95th percentile), and the counts of both sides with
Poisson's 95 % interval. On a sample only recall can be given, next to its own chance level. Counts without times are
compared with ours on the same bars if available, else with many windows of the same length elsewhere, whose spread is
printed. Ratios of counts need no time span.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import ConfigError, DataMissing
from bot.core.klines import interval_ms
from bot.market.store import format_time, parse_time
from bot.parity import chance
from bot.parity.alert_names import ALERTS, BY_KEY, FEATURES, RATIOS, AlertFeature, nearest
from bot.parity.stream_bars import WARM_UP, BarSource, StreamBars, columns_on, tick_of
from bot.parity.streams import EXAMPLES, AlertStream, Counted, Stretch, complete_option, stretches_of
from bot.parity.verdict import bars_list

FEW: Final = 5  # minimum number of alerts for a verdict
SAME: Final = 0.9  # F1 from which the marks count as the same
NEAR: Final = 0.75  # F1 from which they count as mostly the same
AROUND: Final = 300  # bars on either side of a sample used for its shifts
COLD: Final = 100  # first bars of a series that are not used for a sample
WINDOWS: Final = 400  # maximum number of windows
COVERED: Final = 0.98  # share of a span's bars required to compare its count with ours on the same bars
COLUMNS: Final = frozenset[str]().union(*(feature.columns for feature in FEATURES if feature.computed))


class Tables:
    """Our columns on bars, computed once per bars and configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._known: dict[int, tuple[StreamBars, Mapping[str, np.ndarray]]] = {}

    def of(self, bars: StreamBars) -> Mapping[str, np.ndarray]:
        """Return all columns that features read."""
        if id(bars) not in self._known:
            self._known[id(bars)] = bars, columns_on(bars, self.config, COLUMNS)
        return self._known[id(bars)][1]


def wanted_marks(feature: AlertFeature, stretch: Stretch, bars: StreamBars, part: slice) -> list[np.ndarray]:
    """Return for each side the positions, within a part of the bars, of the bars with alerts of a feature; ascending int64.

    Parameters
    ----------
    feature
        The feature.
    stretch
        The period with its alerts.
    bars, part
        Klines, and the rows of them to use.
    """
    opens = bars.klines.open_ms[part]
    found: list[list[int]] = [[] for _ in feature.sides]
    for alert, bar in stretch.alerts:
        side = feature.side_of(alert.leaves)
        if side is not None:
            found[side].append(bar)
    return [chance.positions(np.isin(opens, np.array(sorted(set(side)), np.int64))) for side in found]


def _chances(
    found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], bars: int, within: int, total: int
) -> tuple[float | None, float | None, int]:
    """Return the highest F1 (recall, where `total` is the alerts alone) under shifts, its 95th percentile, and their number."""
    shifts = chance.shifts_of(bars)
    if not len(shifts):
        return None, None, 0
    values = 2.0 * chance.shifted_hits(found, wanted, bars, within, shifts) / total
    return float(values.max()), float(np.quantile(values, 0.95)), len(shifts)


def _feature_row(
    feature: AlertFeature, stretch: Stretch, bars: StreamBars, part: slice, table: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    wanted = wanted_marks(feature, stretch, bars, part)
    found = [chance.positions(side[part]) for side in feature.marks(table)]
    length = part.stop - part.start
    theirs, ours = sum(map(len, wanted)), sum(map(len, found))
    row: dict[str, Any] = {
        "feature": feature.key,
        "label": feature.label,
        "theirs": theirs,
        "theirs_interval": chance.poisson_interval(theirs),
        "ours": ours,
        "bars": length,
    }
    for within in (0, 1):
        hit = chance.hits(found, wanted, within)
        row[f"hits_{within}"] = hit
        row[f"recall_{within}"] = hit / theirs if theirs else None
        if stretch.complete:
            row[f"precision_{within}"] = hit / ours if ours else None
            row[f"f1_{within}"] = chance.f1(hit, ours, theirs)
        total = theirs + ours if stretch.complete else 2 * theirs
        most, usual, shifts = _chances(found, wanted, length, within, total) if theirs else (None, None, 0)
        row[f"chance_{within}"], row[f"chance_95_{within}"] = most, usual
        row["shifts"] = shifts
    row["verdict"] = _words(row, stretch.complete)
    missed = [int(bars.klines.open_ms[part][i]) for a, b in zip(wanted, found, strict=True) for i in np.setdiff1d(a, b)]
    row["missed_ms"] = sorted(missed)[:EXAMPLES]
    return row


def _words(row: Mapping[str, Any], complete: bool) -> str:
    """Return the verdict on a feature."""
    theirs, ours = row["theirs"], row["ours"]
    if theirs < FEW:
        return f"too few alerts to judge ({theirs})"
    name = "f1" if complete else "recall"
    exact, near, most = row[f"{name}_0"], row[f"{name}_1"], row["chance_0"]
    if most is None:
        return "too few bars for a chance level"
    if exact >= SAME:
        words = "fires on the same bars" if complete else "fires on the bars of the sample"
        if exact <= most:
            words += ", as would shifted alerts: no evidence"
    elif near >= SAME and exact < NEAR and near > row["chance_1"]:
        words = "fires a bar apart"
    elif exact <= most:
        words = "no better than chance can be"
    elif exact >= NEAR:
        words = "fires mostly on the same bars"
    else:
        words = "better than chance, but often on other bars"
    low, high = row["theirs_interval"]
    if complete and not low <= ours <= high:
        words += f"; {ours / theirs:.2g} times as many as the alerts"
    return words


def _check_prices(stretch: Stretch, bars: StreamBars) -> dict[str, int] | None:
    """Return how many prices given with alerts lie within a tick of their bar or the next one; None without prices."""
    klines = bars.klines
    priced = [(alert.price, bar) for alert, bar in stretch.alerts if math.isfinite(alert.price)]
    rows = [(price, int(np.searchsorted(klines.open_ms, bar))) for price, bar in priced]
    rows = [
        (price, i)
        for (price, i), (_, bar) in zip(rows, priced, strict=True)
        if i < len(klines) and klines.open_ms[i] == bar
    ]
    if not rows:
        return None
    tick = max(tick_of(klines.close), tick_of(np.array([price for price, _ in rows])))
    fits = 0
    for price, i in rows:
        last = min(i + 2, len(klines))
        fits += bool(klines.low[i:last].min() - tick <= price <= klines.high[i:last].max() + tick)
    return {"priced": len(rows), "fits": fits}


def compare_stretch(stretch: Stretch, source: BarSource, tables: Tables) -> dict[str, Any]:
    """Return the report on one period: its features, what is not computed, and what could not be compared."""
    opens = range(stretch.from_ms, stretch.to_ms, stretch.step_ms)
    bars = source.find(stretch.symbol, stretch.interval, opens if stretch.complete else [b for _, b in stretch.alerts])
    report: dict[str, Any] = {
        "symbol": stretch.symbol,
        "interval": stretch.interval,
        "complete": stretch.complete,
        "from_ms": stretch.from_ms,
        "to_ms": stretch.to_ms,
        "label": stretch.label,
        "alerts": len(stretch.alerts),
        "late_ms_max": max(stretch.late_ms, default=None),
        "unassigned": [{"row": a.row, "at_ms": a.at_ms, "name": a.name} for a in stretch.unassigned],
        "features": [],
        "notes": [],
        "klines": None,
        "not_covered": 0,
    }
    if bars is None:
        report["missing"] = source.holdings(stretch.symbol, stretch.interval)
        return report
    part = bars.rows(stretch.from_ms, stretch.to_ms)
    if not stretch.complete:
        first = max(min(COLD, len(bars.klines) // 3), part.start - AROUND)
        part = slice(first, max(first, min(len(bars.klines), part.stop + AROUND)))
    held = set(bars.klines.open_ms[part].tolist())
    report["klines"] = bars.source
    report["bars"] = part.stop - part.start
    report["warm_up"] = part.start
    report["not_covered"] = sum(bar not in held for _, bar in stretch.alerts)
    report["notes"] += bars.notes
    if part.start < WARM_UP:
        report["notes"].append(f"only {part.start} bars before the stretch warm up, {WARM_UP} are wanted")
    report["prices"] = _check_prices(stretch, bars)
    table = tables.of(bars)
    for feature in FEATURES:
        fired = sum(feature.side_of(alert.leaves) is not None for alert, _ in stretch.alerts)
        if fired and feature.computed:
            row = _feature_row(feature, stretch, bars, part, table)
            if row["theirs"]:
                report["features"].append(row)
    if stretch.complete:
        counts = {row["feature"]: (row["theirs"], row["ours"]) for row in report["features"]}
        report["ratios"] = _ratio_rows(
            {name: theirs for name, (theirs, _) in counts.items()}, {name: ours for name, (_, ours) in counts.items()}
        )
    return report


# ---- counts ---------------------------------------------------------------------------------------------------------


def counts_of(counts: Sequence[Counted]) -> list[tuple[tuple[str, str, str, str, str], dict[str, tuple[int, Counted]]]]:
    """Return per symbol, interval and span the count of each feature: rows that add up to exactly its alerts."""
    groups: dict[tuple[str, str, str, str, str], list[Counted]] = {}
    for row in counts:
        groups.setdefault((row.symbol, row.interval, row.from_text, row.to_text, row.source), []).append(row)
    found = []
    for place, rows in groups.items():
        features: dict[str, tuple[int, Counted]] = {}
        for feature in FEATURES:
            left, total, first = feature.leaves, 0, None
            for row in sorted(rows, key=lambda row: -len(row.leaves)):
                if row.leaves <= left:
                    left, total, first = left - row.leaves, total + row.count, first or row
            if not left and first is not None:
                features[feature.key] = total, first
        found.append((place, features))
    return found


def longest_counts(counts: Sequence[Counted]) -> dict[tuple[str, str, str], tuple[int, Counted]]:
    """Return the count of the longest known span for each symbol, interval and feature."""
    best: dict[tuple[str, str, str], tuple[int, Counted]] = {}
    for (symbol, interval, *_), features in counts_of(counts):
        for key, (count, row) in features.items():
            place = symbol, interval, key
            if not row.estimated and (place not in best or row.bars > best[place][1].bars):
                best[place] = count, row
    return best


def _windows(marks: np.ndarray, length: int) -> tuple[float, np.ndarray]:
    """Return the mean number of marks per `length` bars after the warm-up, and the numbers in windows of that length.

    The mean covers all those bars: the median of a few dozen windows of a skewed count is below it and depends on their
    positions.
    """
    total = np.concatenate(([0], np.cumsum(marks)))
    first, last = min(WARM_UP, len(marks) // 3), len(marks) - length
    if last < first:
        return np.nan, np.zeros(0)
    starts = np.unique(
        np.linspace(first, last, min(WINDOWS, 1 + 4 * (last - first) // length)).round().astype(np.int64)
    )
    mean = float(total[-1] - total[first]) / (len(marks) - first) * length
    return mean, np.asarray(total[starts + length] - total[starts], np.float64)


def _span(row: Counted) -> tuple[int, int] | None:
    try:
        return parse_time(row.from_text.replace(" ", "T")), parse_time(row.to_text.replace(" ", "T"))
    except ConfigError:
        return None


def _same_bars(row: Counted, source: BarSource) -> tuple[StreamBars, slice] | None:
    """Return the bars of a count's own span if nearly all of them are available."""
    span, step = _span(row), interval_ms(row.interval)
    if span is None or span[1] <= span[0]:
        return None
    opens = np.arange(-(-span[0] // step) * step, span[1] // step * step, step)
    bars = source.find(row.symbol, row.interval, opens.tolist()) if len(opens) else None
    if bars is None:
        return None
    part = bars.rows(int(opens[0]), int(opens[-1]) + step)
    return (bars, part) if part.stop - part.start >= COVERED * len(opens) else None


def _total(feature: AlertFeature, table: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum([side.astype(np.int64) for side in feature.marks(table)], axis=0)


def _rate_row(feature: AlertFeature, count: int, row: Counted, source: BarSource, tables: Tables) -> dict[str, Any]:
    per = 1000.0 / row.bars
    low, high = chance.poisson_interval(count)
    found: dict[str, Any] = {
        "symbol": row.symbol,
        "interval": row.interval,
        "feature": feature.key,
        "label": feature.label,
        "count": count,
        "bars": row.bars,
        "from": row.from_text,
        "to": row.to_text,
        "source": row.source,
        "true": count * per,
        "true_interval": (low * per, high * per),
        "ours": None,
        "ours_spread": None,
        "windows": 0,
        "on": None,
        "factor": None,
    }
    if not feature.computed:
        return found | {"verdict": "not computed here"}
    if (same := _same_bars(row, source)) is not None:
        bars, part = same
        ours = float(_total(feature, tables.of(bars))[part].sum()) * 1000.0 / (part.stop - part.start)
        found |= {"ours": ours, "on": "the same bars"}
    else:
        other = source.longest(row.symbol, row.interval)
        if other is None:
            return found | {"verdict": "no klines: name some with --klines"}
        mean, windows = _windows(_total(feature, tables.of(other)), row.bars)
        if not len(windows):
            return found | {"verdict": f"{other.source} has fewer bars than the span of the count ({row.bars:,})"}
        ours = mean * per
        spread = tuple(float(v) for v in np.quantile(windows * per, (0.025, 0.975)))
        first, end = format_time(int(other.klines.open_ms[0]))[:7], format_time(other.klines.end_ms)[:7]
        found |= {"ours": ours, "ours_spread": spread, "windows": len(windows), "on": f"windows of {first} to {end}"}
    found["factor"] = found["ours"] / found["true"] if found["true"] else None
    return found | {"verdict": _rate_words(found)}


def _rate_words(row: Mapping[str, Any]) -> str:
    low, high = row["true_interval"]
    if low <= row["ours"] <= high:
        return "within"
    spread = row["ours_spread"]
    if spread is not None and spread[0] <= row["true"] <= spread[1]:
        return "within the spread of our windows"
    factor = row["factor"]
    if factor is None:
        return "never fired there"
    if factor == 0.0:
        return "never fires here: is it switched on?"
    return f"{factor:.2g} times as many" if factor >= 1.0 else f"only {factor:.2g} of them"


def _ratio_rows(theirs: Mapping[str, int], ours: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the ratios between features on both sides; the interval is that of two Poisson counts."""
    rows = []
    for above, below, label in RATIOS:
        a, b = theirs.get(above, 0), theirs.get(below, 0)
        if a < FEW or b < FEW:
            continue
        ratio, width = a / b, chance.Z * math.sqrt(1.0 / a + 1.0 / b)
        interval = ratio * math.exp(-width), ratio * math.exp(width)
        mine = ours[above] / ours[below] if ours.get(below) and above in ours else None
        if mine is None:
            verdict = "not computed here"
        else:
            verdict = "within" if interval[0] <= mine <= interval[1] else f"{mine / ratio:.2g} of it"
        rows.append({"ratio": label, "true": ratio, "true_interval": interval, "ours": mine, "verdict": verdict})
    return rows


def compare_counts(
    counts: Sequence[Counted], source: BarSource, tables: Tables
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of rates (the longest known span per symbol, interval and feature) and of ratios."""
    best = longest_counts(counts)
    ratios: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (symbol, interval, *_), features in counts_of(counts):
        other = source.longest(symbol, interval)
        ours: dict[str, float] = {}
        if other is not None:
            table = tables.of(other)
            computed = [BY_KEY[key] for key in features if BY_KEY[key].computed]
            ours = {feature.key: float(_total(feature, table)[WARM_UP:].sum()) for feature in computed}
        bars = max((row.bars for _, row in features.values()), default=0)
        for found in _ratio_rows({key: count for key, (count, _) in features.items()}, ours):
            place = symbol, interval, found["ratio"]
            if place not in ratios or bars > ratios[place]["bars"]:
                ratios[place] = {"symbol": symbol, "interval": interval, "bars": bars} | found
    order = [feature.key for feature in FEATURES]
    places = sorted(best, key=lambda place: (place[0], interval_ms(place[1]), order.index(place[2])))
    rates = [_rate_row(BY_KEY[place[2]], *best[place], source, tables) for place in places]
    return rates, list(ratios.values())


# ---- the report -----------------------------------------------------------------------------------------------------


def not_computed(stream: AlertStream) -> list[str]:
    """Return the alerts of a stream that no column of ours corresponds to."""
    named = frozenset[str]().union(*(alert.leaves for alert in stream.alerts), *(row.leaves for row in stream.counts))
    return [alert.name for alert in ALERTS if alert.name in named and alert.read is None]


def compare_stream(
    config: Config, stream: AlertStream, places: Sequence[Path], *, complete: str | None = None
) -> dict[str, Any]:
    """Return the report of a stream against our events.

    Parameters
    ----------
    config
        Configuration of our side.
    stream
        The stream.
    places
        Folders or files where klines may be, in order of preference.
    complete
        "all", or a time span: the period in which absence counts.

    Raises
    ------
    DataMissing
        No place has klines of the time, and there are no counts either.
    """
    source, tables = BarSource(config, places), Tables(config)
    stretches = stretches_of(stream, complete_option(complete))
    found = [compare_stretch(stretch, source, tables) for stretch in stretches]
    rates, ratios = compare_counts(stream.counts, source, tables)
    if found and not any(row["klines"] for row in found) and not any(row["ours"] is not None for row in rates):
        first = found[0]
        raise DataMissing(
            f"{stream.path}: no klines for its {first['label']}: {first['missing']}; name klines of that time with --klines"
        )
    times = [alert.at_ms for alert in stream.alerts]
    groups = sorted(stream.groups())
    report: dict[str, Any] = {
        "export": {
            "kind": "alert stream",
            "file": stream.path.name,
            "alerts": len(stream.alerts),
            "counts": len(stream.counts),
            "symbol": ", ".join(dict.fromkeys(symbol for symbol, _ in groups)),
            "interval": ", ".join(dict.fromkeys(interval for _, interval in groups)),
            "from_ms": min(times, default=0),
            "to_ms": max(times, default=0),
        },
        "stretches": found,
        "rates": rates,
        "ratios": ratios,
        "not_computed": not_computed(stream),
        "unknown": [{"alert": n, "count": c, "near": nearest(n)} for n, c in stream.unknown.items()],
        "notes": list(dict.fromkeys([*stream.notes, *(note for row in found for note in row["notes"])])),
    }
    report["alerts"] = {
        f"{row['label']}: {one['label']}": {
            name: value for name, value in one.items() if not isinstance(value, tuple | list)
        }
        for row in found
        for one in row["features"]
    }
    report["verdict"] = verdict(report)
    return report


def _figures(row: Mapping[str, Any], complete: bool) -> str:
    name = "f1" if complete else "recall"
    word = "F1" if complete else "recall"
    figures = f"{word} {row[f'{name}_0']:.2f} (±1 bar {row[f'{name}_1']:.2f})"
    if row["chance_0"] is not None:
        figures += f", chance {row['chance_95_0']:.2f}, at most {row['chance_0']:.2f}"
    return (
        f"{figures}; {row['theirs']} alerts, {row['ours']} here" if complete else f"{figures}; {row['theirs']} alerts"
    )


def no_close_words(alerts: Sequence[tuple[int, int]]) -> str:
    """Return a sentence on the alerts (row, ms) that belong to no bar."""
    rows = ", ".join(str(row) for row, _ in alerts[:EXAMPLES])
    times = bars_list([at_ms for _, at_ms in alerts[:EXAMPLES]], len(alerts))
    return f"{len(alerts)} alerts came at no close and belong to no bar (rows {rows}; {times}): set them to 'Once per bar close'"


def unknown_words(unknown: Mapping[str, int]) -> list[str]:
    """Return one sentence per unknown name, with the name that may be meant."""
    near = {name: nearest(name) for name in unknown}
    return [
        f"the name {name!r} ({count} rows) is not known" + (f"; did you mean {near[name]!r}?" if near[name] else "")
        for name, count in unknown.items()
    ]


def verdict(report: Mapping[str, Any]) -> list[str]:
    """Return the sentences on a stream and set the headline: one sentence per feature, then what was left out."""
    sentences, heads = [], []
    for row in report["stretches"]:
        place = f"{row['symbol']} {row['interval']}"
        if row["klines"] is None:
            sentences.append(f"{row['label']}: {row['alerts']} alerts are not compared: {row['missing']}")
        for one in row["features"]:
            if one["theirs"] >= FEW:
                sentences.append(f"{place} {one['label']}: {one['verdict']} ({_figures(one, row['complete'])})")
                if row["complete"]:
                    heads.append(f"{place} {one['label']} F1 {one['f1_0']:.2f}")
        few = [f"{one['label']} ({one['theirs']})" for one in row["features"] if one["theirs"] < FEW]
        if few:
            sentences.append(f"{row['label']}: too few alerts to judge: {', '.join(few)}")
        if row["not_covered"]:
            sentences.append(f"{row['label']}: {row['not_covered']} alerts lie outside the klines")
        if row["unassigned"]:
            sentences.append(f"{place}: {no_close_words([(a['row'], a['at_ms']) for a in row['unassigned']])}")
        prices = row.get("prices")
        if prices is not None and prices["fits"] < 0.8 * prices["priced"]:
            sentences.append(
                f"{place}: only {prices['fits']} of {prices['priced']} prices in the stream lie within a tick of their bars: the "
                "times may be of another zone, or the klines of another market"
            )
    wrong = [row for row in report["rates"] if row["ours"] is not None and not row["verdict"].startswith("within")]
    judged = [row for row in report["rates"] if row["ours"] is not None]
    if judged:
        sentences.append(f"{len(judged) - len(wrong)} of {len(judged)} rates lie within their interval or our spread")
        heads.append(sentences[-1])
    if report["not_computed"]:
        sentences.append(f"not computed here, so not compared: {', '.join(report['not_computed'])}")
    sentences += unknown_words({row["alert"]: row["count"] for row in report["unknown"]})
    if any(row["features"] and not row["complete"] for row in report["stretches"]):
        sentences.append(
            "where a stream is no complete record only recall is reported; --complete means that absence counts"
        )
    if isinstance(report, dict):
        report["headline"] = "; ".join(heads[:4] or sentences[:1] or ["nothing to compare"])
    return sentences
