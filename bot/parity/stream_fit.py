"""`calibrate` on streams of alerts: choose settings and named readings from a closed grid per feature, keep those that hold.

The first 70 % of each complete period are the training part: the value with the highest F1 on the bar wins, minus a
penalty for rates that miss where counts are given. It is accepted only when

* its F1 is above the highest that the best of the same grid reaches on the alerts shifted in time,
* it is better on the last 30 %, clearly and on more bars than it is worse (a sign test at 5 %), and there above its own
  F1 on shifted alerts,
* it is better on another symbol, if the streams have one,
* it does not move a correct rate out of its interval.

Rates alone accept nothing: they do not show on which bars. Our columns of each value are computed once per series of
bars and stored as positions.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.errors import BotError, DataError
from bot.core.klines import fill_gaps
from bot.parity import chance
from bot.parity.alert_names import BY_KEY, FEATURES, AlertFeature
from bot.parity.bind import Bound, bind, load_bind
from bot.parity.calibrate import CLEAR, TRAIN, profile_text
from bot.parity.compare import aligned_export, kept_bars, klines_source
from bot.parity.exports import ChartData
from bot.parity.grids import GRIDS, Grid, present
from bot.parity.ours import bars_of, changed
from bot.parity.stream_bars import WARM_UP, BarSource, StreamBars, columns_on
from bot.parity.stream_compare import longest_counts, no_close_words, not_computed, unknown_words, wanted_marks
from bot.parity.streams import AlertStream, Counted, complete_option, stretches_of

Positions = list[np.ndarray]  # positions of the marks of each side, ascending int64
FEWEST: Final = 10  # minimum number of alerts in the training part
FEW: Final = 5  # minimum number of alerts in a judging part
BEST: Final = 40  # number of best values whose rates are computed
RATE_BARS: Final = 20_000  # newest bars on which our events are counted for a rate
SPREAD: Final = 0.1  # log spread of a rate between months (measured: 0.03 to 0.13)
RATE_WEIGHT: Final = 0.5  # F1 penalty for a rate that is off by a factor of e
SURE: Final = 1.645  # z of a one-sided test at 5 %


@dataclass(slots=True, eq=False)
class FitSegment:
    """Bars on which absence counts: a part of a series, and the positions of each feature's alerts in it."""

    symbol: str
    interval: str
    bars: StreamBars
    part: slice
    wanted: dict[str, Positions]
    origin: str

    @property
    def length(self) -> int:
        """Number of bars in the part."""
        return self.part.stop - self.part.start

    def cut(self, first: int, last: int) -> "FitSegment":
        """Return a sub-range of the part, given in bars of the part, the end exclusive."""
        wanted = {
            key: [side[(side >= first) & (side < last)] - first for side in sides] for key, sides in self.wanted.items()
        }
        part = slice(self.part.start + first, self.part.start + last)
        return FitSegment(self.symbol, self.interval, self.bars, part, wanted, self.origin)


class Predictions:
    """Where our features fire on bars under given settings, computed once and stored as positions."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._known: dict[tuple[int, tuple[str, ...], tuple[tuple[str, Any], ...]], dict[str, Positions] | None] = {}
        self._held: dict[int, StreamBars] = {}  # keeps the bars alive whose `id` is a key

    def of(self, bars: StreamBars, changes: Mapping[str, Any], judges: Sequence[str]) -> dict[str, Positions] | None:
        """Return the positions of each judging feature, None for settings that exclude each other."""
        changes = {name: value for name, value in changes.items() if value != present(self.config, name)}
        key = id(bars), tuple(judges), tuple(sorted(changes.items()))
        if key not in self._known:
            self._held[id(bars)] = bars
            self._known[key] = self._computed(bars, changes, [BY_KEY[judge] for judge in judges])
        return self._known[key]

    def _computed(
        self, bars: StreamBars, changes: Mapping[str, Any], features: Sequence[AlertFeature]
    ) -> dict[str, Positions] | None:
        try:
            config = changed(self.config, changes)
            table = columns_on(bars, config, frozenset[str]().union(*(feature.columns for feature in features)))
        except (BotError, ValueError):
            return None
        return {feature.key: [chance.positions(side) for side in feature.marks(table)] for feature in features}


def _within(places: Positions, part: slice) -> Positions:
    return [side[np.searchsorted(side, part.start) : np.searchsorted(side, part.stop)] - part.start for side in places]


@dataclass(slots=True)
class Tally:
    """Hits, our marks and alerts summed over segments, and the hits under each shift."""

    hits: int
    ours: int
    theirs: int
    shifted: np.ndarray

    @property
    def f1(self) -> float:
        """F1 on the bar."""
        return chance.f1(self.hits, self.ours, self.theirs)

    @property
    def f1_shifted(self) -> np.ndarray:
        """F1 under each shift."""
        total = self.ours + self.theirs
        return 2.0 * self.shifted / total if total else np.zeros_like(self.shifted)


class Jury:
    """Scores settings on segments by the alerts of some features, and on the same alerts shifted."""

    def __init__(self, segments: Sequence[FitSegment], judges: Sequence[str], predictions: Predictions) -> None:
        self.segments = [s for s in segments if s.length and any(judge in s.wanted for judge in judges)]
        self.judges = [judge for judge in judges if any(judge in segment.wanted for segment in self.segments)]
        self.predictions = predictions
        self._wanted = [self._sides(segment, segment.wanted) for segment in self.segments]
        self._spectra = [
            chance.Spectrum(wanted, segment.length) for wanted, segment in zip(self._wanted, self.segments, strict=True)
        ]
        longest = max((segment.length for segment in self.segments), default=0)
        steps = chance.shifts_of(longest)  # as fractions of the longest segment, applied to all others
        self._shifts = [self._scaled(steps / max(1, longest), segment.length) for segment in self.segments]
        self.shifts = len(steps)
        self.theirs = sum(len(side) for wanted in self._wanted for side in wanted)

    @staticmethod
    def _scaled(parts: np.ndarray, length: int) -> np.ndarray:
        """Return shifts as fractions of a length, none nearer than `NEAREST_SHIFT` (or half of a shorter period)."""
        nearest = min(chance.NEAREST_SHIFT, length // 2)
        return np.clip(np.round(parts * length).astype(np.int64), nearest, length - max(1, nearest))

    def _sides(self, segment: FitSegment, places: Mapping[str, Positions]) -> Positions:
        """Return the sides of the judges for which a segment has alerts: for the others absence does not count."""
        return [side for judge in self.judges if judge in segment.wanted for side in places[judge]]

    def found(self, segment: FitSegment, changes: Mapping[str, Any]) -> Positions | None:
        """Return where ours fire in a segment, by judge and side; None for settings that exclude each other."""
        known = self.predictions.of(segment.bars, changes, self.judges)
        return None if known is None else _within(self._sides(segment, known), segment.part)

    def tally(self, changes: Mapping[str, Any]) -> Tally | None:
        """Return the tally of settings over all segments, None for settings that exclude each other."""
        total = Tally(0, 0, self.theirs, np.zeros(self.shifts))
        for segment, spectrum, shifts in zip(self.segments, self._spectra, self._shifts, strict=True):
            found = self.found(segment, changes)
            if found is None:
                return None
            hits = spectrum.hits(found)
            total.hits += int(hits[0])
            total.ours += sum(map(len, found))
            total.shifted += hits[shifts]
        return total

    def better_and_worse(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[int, int]:
        """Return the numbers of bars (per side) on which only the new settings agree with the alerts, and only the old ones."""
        better = worse = 0
        for segment, wanted in zip(self.segments, self._wanted, strict=True):
            for side, before, after in zip(
                wanted, self.found(segment, old) or [], self.found(segment, new) or [], strict=True
            ):
                flags = [np.isin(np.arange(segment.length), places) for places in (side, before, after)]
                right_before, right_after = flags[1] == flags[0], flags[2] == flags[0]
                better += int((right_after & ~right_before).sum())
                worse += int((right_before & ~right_after).sum())
        return better, worse


@dataclass(frozen=True, slots=True)
class Rate:
    """A count of a feature over `bars`, and the bars on which ours are counted for it."""

    feature: str
    count: int
    bars: int
    on: StreamBars


class EventRates:
    """Compares the rates of a grid's features with those counted."""

    def __init__(self, rates: Sequence[Rate], predictions: Predictions, judges: Sequence[str]) -> None:
        self.rates = [rate for rate in rates if rate.feature in judges and rate.count >= FEWEST]
        self._predictions = predictions

    def misses(self, changes: Mapping[str, Any]) -> list[float]:
        """Return for each count the logarithm by which our rate is outside its interval, 0 inside."""
        found = []
        for rate in self.rates:
            known = self._predictions.of(rate.on, changes, [rate.feature])
            if known is None:
                return [math.inf] * len(self.rates)
            count = sum(int((side >= WARM_UP).sum()) for side in known[rate.feature])
            ours = max(count, 0.5) / max(1, len(rate.on.klines) - WARM_UP)
            limit = chance.Z * math.sqrt(1.0 / rate.count + SPREAD**2)
            found.append(max(0.0, abs(math.log(ours * rate.bars / rate.count)) - limit))
        return found

    def cost(self, changes: Mapping[str, Any]) -> float:
        """Return the penalty on F1 for the misses."""
        misses = self.misses(changes)
        return RATE_WEIGHT * float(np.mean(misses)) if misses else 0.0


def _changes(config: Config, before: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return all changes against the configuration when a grid's value is set on top of what was accepted."""
    merged = {**before, **value}
    return {name: given for name, given in merged.items() if given != present(config, name)}


def _neighbours(grid: Grid, value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the values of a grid one step away on a numeric axis."""
    found = []
    for axis in grid.axes:
        if isinstance(axis.values[0], str) or value[axis.setting] not in axis.values:
            continue
        place = axis.values.index(value[axis.setting])
        found += [
            dict(value) | {axis.setting: axis.values[i]} for i in (place - 1, place + 1) if 0 <= i < len(axis.values)
        ]
    return found


def fit_grid(
    config: Config,
    grid: Grid,
    segments: Sequence[FitSegment],
    predictions: Predictions,
    changes: Mapping[str, Any],
    rates: Sequence[Rate] = (),
) -> dict[str, Any]:
    """Return the row of a grid: its best value, the figures of the parts, and whether it is accepted or why not.

    Parameters
    ----------
    config
        Configuration before the fit.
    grid
        Settings and values to try.
    segments
        Complete periods; those of the symbol with most alerts choose and judge, those of other symbols judge.
    predictions
        Cache of where ours fire.
    changes
        What was accepted before.
    rates
        Counts to compare our rates with.
    """
    judges = [judge for judge in grid.judges if BY_KEY[judge].computed and any(judge in s.wanted for s in segments)]
    row: dict[str, Any] = {"grid": grid.name, "values": len(grid), "judges": judges, "alerts": 0, "accepted": False}
    counted = {symbol: _count(segments, judges, symbol) for symbol in dict.fromkeys(s.symbol for s in segments)}
    if not any(counted.values()):
        named = [BY_KEY[judge].label for judge in grid.judges]
        return row | {"reason": f"no alert of {' or '.join(named)} on a complete stretch", "tried": False}
    symbol = max(counted, key=lambda name: counted[name])
    own = [segment for segment in segments if segment.symbol == symbol]
    cuts = [int(segment.length * TRAIN) for segment in own]
    train = Jury([s.cut(0, at) for s, at in zip(own, cuts, strict=True)], judges, predictions)
    later = Jury([s.cut(at, s.length) for s, at in zip(own, cuts, strict=True)], judges, predictions)
    other = Jury([s for s in segments if s.symbol != symbol], judges, predictions)
    row |= {"alerts": counted[symbol], "symbol": symbol}
    if train.theirs < FEWEST or later.theirs < FEW or not train.shifts or not later.shifts:
        enough = f"{FEWEST} in the first {TRAIN:.0%} and {FEW} in the rest are wanted"
        return row | {"reason": f"too few alerts ({train.theirs} and {later.theirs}; {enough})", "tried": False}
    return (
        row
        | {"tried": True}
        | _tried(config, grid, (train, later, other), EventRates(rates, predictions, judges), changes)
    )


def _count(segments: Iterable[FitSegment], judges: Sequence[str], symbol: str) -> int:
    own = (s for s in segments if s.symbol == symbol)
    return sum(len(side) for segment in own for judge in judges for side in segment.wanted.get(judge, []))


def _tried(
    config: Config, grid: Grid, juries: tuple[Jury, Jury, Jury], rates: EventRates, changes: Mapping[str, Any]
) -> dict[str, Any]:
    train, later, other = juries
    now = {axis.setting: changes.get(axis.setting, present(config, axis.setting)) for axis in grid.axes}
    before = train.tally(changes)
    chances = np.zeros(train.shifts) if before is None else before.f1_shifted.copy()
    scored: list[tuple[float, int, dict[str, Any]]] = []
    for value in grid.values():
        tally = train.tally(_changes(config, changes, value))
        if tally is None:
            continue
        np.maximum(chances, tally.f1_shifted, out=chances)
        moved = sum(value[name] != now[name] for name in now)
        scored.append((tally.f1, -moved, value))
    scored.sort(key=lambda one: (-round(one[0], 9), -one[1]))
    was = before.f1 if before is not None else 0.0
    old_cost = rates.cost(changes)
    best, best_score, best_f1 = now, was - old_cost, was
    for found, _, value in scored[:BEST]:
        score = found - (rates.cost(_changes(config, changes, value)) if rates.rates else 0.0)
        if score > best_score + 1e-9:
            best, best_score, best_f1 = value, score, found
    new = _changes(config, changes, best)
    around = [tally.f1 for value in _neighbours(grid, best) if (tally := train.tally(_changes(config, changes, value)))]
    row: dict[str, Any] = {
        "was": now,
        "value": {name: value for name, value in best.items() if value != now[name]},
        "train_before": was,
        "train_after": best_f1,
        "train_chance": float(chances.max()),
        "train_chance_95": float(np.quantile(chances, 0.95)),
        "shifts": train.shifts,
        "neighbours": float(np.mean(around)) if around else None,
    }
    for name, jury in (("holdout", later), ("other", other)):
        old_tally, new_tally = (jury.tally(given) if jury.theirs else None for given in (changes, new))
        row[f"{name}_before"] = old_tally.f1 if old_tally is not None else None
        row[f"{name}_after"] = new_tally.f1 if new_tally is not None else None
        shifted = new_tally.f1_shifted if new_tally is not None else np.zeros(0)
        row[f"{name}_chance"] = float(shifted.max()) if len(shifted) else None
        row[f"{name}_alerts"] = jury.theirs
    better, worse = later.better_and_worse(changes, new)
    row |= {"better": better, "worse": worse, "rate_misses": (rates.misses(changes), rates.misses(new))}
    reason = _refusal(row)
    return row | {"accepted": reason is None, "reason": reason}


def _refusal(row: Mapping[str, Any]) -> str | None:
    """Return why a value is rejected, None if it is accepted."""
    if not row["value"]:
        return f"no value fits better than as set (F1 {row['train_before']:.2f})"
    after, most = row["train_after"], row["train_chance"]
    if after <= most:
        return (
            f"F1 {after:.2f} is no more than chance: the best of this grid reaches {most:.2f} on one of {row['shifts']} shifts "
            "of the alerts"
        )
    old, new = row["holdout_before"], row["holdout_after"]
    better, worse = row["better"], row["worse"]
    if new < old * (1.0 + CLEAR) + 1e-12 or better - worse <= SURE * math.sqrt(better + worse):
        return (
            f"fits the first part better, but not surely the rest: F1 {old:.2f} to {new:.2f}, better on {better} bars and worse "
            f"on {worse}"
        )
    if row["holdout_chance"] is not None and new <= row["holdout_chance"]:
        return f"F1 {new:.2f} on the rest is no more than on shifted alerts ({row['holdout_chance']:.2f})"
    if row["other_alerts"] >= FEW and row["other_after"] <= row["other_before"]:
        return f"does not help the other symbol: F1 {row['other_before']:.2f} to {row['other_after']:.2f}"
    old_misses, new_misses = row["rate_misses"]
    if any(late > early + 0.05 for early, late in zip(old_misses, new_misses, strict=True)):
        return "takes a rate further out of its interval"
    return None


# ---- data to fit ----------------------------------------------------------------------------------------------------


def segments_of(
    stream: AlertStream, source: BarSource, complete: tuple[int, int] | str | None, notes: list[str]
) -> list[FitSegment]:
    """Return the complete periods of a stream that klines cover; what is left out is noted.

    Parameters
    ----------
    stream
        The stream.
    source
        Where klines are found.
    complete
        As returned by `complete_option`.
    notes
        Notes of the report, appended to in place.
    """
    found = []
    for stretch in stretches_of(stream, complete):
        if stretch.unassigned:
            late = no_close_words([(alert.row, alert.at_ms) for alert in stretch.unassigned])
            notes.append(f"{stream.path.name}: {stretch.symbol} {stretch.interval}: {late}")
        if not stretch.complete:
            notes.append(
                f"{stream.path.name}: {len(stretch.alerts)} alerts of {stretch.symbol} {stretch.interval} are a sample and are "
                "not fitted to; --complete all means that absence counts"
            )
            continue
        bars = source.find(stretch.symbol, stretch.interval, range(stretch.from_ms, stretch.to_ms, stretch.step_ms))
        if bars is None:
            notes.append(f"{stretch.label}: {source.holdings(stretch.symbol, stretch.interval)}")
            continue
        notes += bars.notes
        part = bars.rows(stretch.from_ms, stretch.to_ms)
        outside = ~np.isin([bar for _, bar in stretch.alerts], bars.klines.open_ms[part])
        if outside.any():
            notes.append(f"{stretch.label}: {outside.sum()} alerts lie outside the klines")
        if part.start < WARM_UP:
            skipped = min(WARM_UP, (part.stop - part.start) // 3) if part.start == 0 else 0
            part = slice(part.start + skipped, part.stop)
            notes.append(f"{stretch.label}: only {part.start} bars warm up before it, {WARM_UP} are wanted")
        if part.stop <= part.start:
            continue
        wanted = {}
        for feature in FEATURES:
            if feature.computed:
                marks = wanted_marks(feature, stretch, bars, part)
                if any(len(side) for side in marks):
                    wanted[feature.key] = marks
        found.append(FitSegment(stretch.symbol, stretch.interval, bars, part, wanted, stream.path.name))
    return found


def without_overlaps(segments: Sequence[FitSegment], notes: list[str]) -> list[FitSegment]:
    """Return segments of which no two have the same feature on the same bars: later ones lose what an earlier one has.

    Alerts in two files would count twice, and the holdout of one file would be in the training part of the other.
    """
    found: list[FitSegment] = []
    for segment in segments:
        parts = [segment]
        for earlier in tuple(found):
            parts = [piece for part in parts for piece in _without(part, earlier)]
        if sum(len(part.wanted) * part.length for part in parts) < len(segment.wanted) * segment.length:
            notes.append(f"{segment.origin}: what stands in an earlier file too counts once")
        found += parts
    return found


def _without(segment: FitSegment, earlier: FitSegment) -> list[FitSegment]:
    """Return a segment's parts after removing the features that an earlier one also has from the bars that both share."""
    if (segment.symbol, segment.interval) != (earlier.symbol, earlier.interval):
        return [segment]
    theirs = earlier.bars.klines.open_ms[earlier.part]
    mine = segment.bars.klines.open_ms[segment.part]
    first, last = (int(at) for at in np.searchsorted(mine, [theirs[0], theirs[-1] + 1]))
    if first == last or not segment.wanted.keys() & earlier.wanted.keys():
        return [segment]
    shared = segment.cut(first, last)
    shared.wanted = {key: sides for key, sides in shared.wanted.items() if key not in earlier.wanted}
    parts = [segment.cut(0, first), shared, segment.cut(last, segment.length)]
    return [part for part in parts if part.length and part.wanted]


class _Theirs(Mapping[str, np.ndarray]):
    """A chart's bound marks under the names of our columns; a column that the chart lacks is 0."""

    def __init__(self, bound: Bound, length: int) -> None:
        self._columns = {
            b.feature: np.nan_to_num(b.column.values) for b in bound.bindings if b.kind in ("event", "state")
        }
        self._zero = np.zeros(length)
        signal = [(n, v) for n, v in _SIGNALS.items() if n in self._columns]
        if signal:
            self._columns["so_signal"] = np.sum([v * (self._columns[n] != 0.0) for n, v in signal], axis=0)
        exits = [n for n in ("so_bullish_exit", "so_bearish_exit") if n in self._columns]
        if exits:
            self._columns["so_exit"] = np.sum([self._columns[n] != 0.0 for n in exits], axis=0)

    def has(self, feature: AlertFeature) -> bool:
        """Return whether the chart shows all columns of the feature, except the dots that replace a cross in a zone."""
        return all(name in self._columns or name.startswith("om_big") for name in feature.columns) and any(
            name in self._columns for name in feature.columns
        )

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns.get(name, self._zero)

    def __iter__(self) -> Any:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


_SIGNALS: Final = {"so_bullish": 1.0, "so_bullish_strong": 2.0, "so_bearish": -1.0, "so_bearish_strong": -2.0}


def segment_of_chart(
    config: Config, data: ChartData, klines: Path | None, bind_file: Path | None, warm_up: int | None
) -> FitSegment:
    """Return chart data as a complete period: its marks that are bound to features, on its own bars.

    Parameters
    ----------
    config
        Configuration of our side.
    data
        Chart data.
    klines
        Folder or file with klines; None for the bot's own.
    bind_file
        Columns bound by hand; None for the remembered ones.
    warm_up
        Bars left out at the start; None for the default.
    """
    by_hand = load_bind(bind_file, data.fingerprint, data.header)
    ours, aligned = aligned_export(config, data, klines_source(klines), required=False)
    keep, _ = kept_bars(data, aligned, warm_up)
    theirs = _Theirs(bind(data, ours, by_hand), len(data.open_ms))
    filled, resets = fill_gaps(bars_of(data, ours.bars.symbol), config.data.max_gap_bars)
    bars = StreamBars(filled, resets_at(len(filled), resets), str(data.path), [], data.volume is not None)
    kept = np.flatnonzero(keep)
    first, last = (int(np.searchsorted(filled.open_ms, data.open_ms[place])) for place in (kept[0], kept[-1]))
    opens = filled.open_ms[first : last + 1]
    wanted = {}
    for feature in FEATURES:
        if feature.computed and theirs.has(feature):
            marks = [chance.positions(np.isin(opens, data.open_ms[side & keep])) for side in feature.marks(theirs)]
            if any(len(side) for side in marks):
                wanted[feature.key] = marks
    return FitSegment(ours.bars.symbol, data.interval or "", bars, slice(first, last + 1), wanted, data.path.name)


def rates_of(counts: Sequence[Counted], source: BarSource) -> list[Rate]:
    """Return the counts of computed features with bars on which ours can be counted: the longest span of each."""
    newest: dict[tuple[str, str], StreamBars | None] = {}
    found = []
    for (symbol, interval, key), (count, row) in longest_counts(counts).items():
        if not BY_KEY[key].computed:
            continue
        if (symbol, interval) not in newest:
            bars = source.longest(symbol, interval)
            newest[symbol, interval] = None if bars is None else _newest(bars)
        on = newest[symbol, interval]
        if on is not None:
            found.append(Rate(key, count, row.bars, on))
    return found


def _newest(bars: StreamBars) -> StreamBars:
    first = max(0, len(bars.klines) - RATE_BARS - WARM_UP)
    part = bars.klines.part(first, len(bars.klines))
    return StreamBars(part, bars.resets[first:], bars.source, bars.notes, bars.has_volume)


def fit(
    config: Config,
    segments: Sequence[FitSegment],
    predictions: Predictions,
    *,
    grids: Sequence[Grid] = GRIDS,
    rates: Sequence[Rate] = (),
    advance: Callable[[int], None] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Fit all grids in turn; return their rows and the accepted changes.

    Parameters
    ----------
    config
        Configuration before the fit.
    segments
        Complete periods with alerts.
    predictions
        Cache of where ours fire.
    grids
        Grids in fitting order.
    rates
        Counts to compare our rates with.
    advance
        Called with the progress, 0 to 99.
    """
    changes: dict[str, Any] = {}
    rows = []
    for i, grid in enumerate(grids):
        row = fit_grid(config, grid, segments, predictions, changes, rates)
        if row["accepted"]:
            changes = _changes(config, changes, row["value"])
        rows.append(row)
        if advance is not None:
            advance(min(99, 100 * (i + 1) // len(grids)))
    return rows, changes


def calibrate_streams(
    config: Config,
    exports: Sequence[AlertStream | ChartData],
    *,
    klines: Path | None = None,
    bind_file: Path | None = None,
    warm_up: int | None = None,
    complete: str | None = None,
    name: str = "calibrated",
    grids: Sequence[Grid] = GRIDS,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Fit the grids to the alerts of streams and the marks of charts; return the report with the profile.

    Parameters
    ----------
    config
        Configuration before the fit.
    exports
        Streams and chart data.
    klines
        Folder or file with klines; those next to a stream and the bot's own are searched too.
    bind_file
        Columns bound by hand.
    warm_up
        Bars of chart data left out at the start; None for the default.
    complete
        "all", or the time span in which absence counts.
    name
        Name of the profile.
    grids
        Grids in fitting order.
    advance
        Called with the progress, 0 to 99.

    Raises
    ------
    DataError
        There is no complete period with klines to fit to.
    """
    notes: list[str] = []
    segments: list[FitSegment] = []
    counts: list[Counted] = []
    left_out: list[str] = []
    span = complete_option(complete)
    own = klines_source(None)
    places = [] if klines is None else [klines]
    places += [export.folder for export in exports if isinstance(export, AlertStream)]
    source = BarSource(config, [*places, *([own] if own is not None else [])])
    for export in exports:
        if isinstance(export, AlertStream):
            segments += segments_of(export, source, span, notes)
            counts += export.counts
            left_out += not_computed(export)
            notes += [f"{export.path.name}: {words}" for words in (*export.notes, *unknown_words(export.unknown))]
        else:
            segments.append(segment_of_chart(config, export, klines, bind_file, warm_up))
            notes.append(f"{export.path.name}: its marks are fitted here; given alone, its lines are too")
    if not segments:
        raise DataError(
            f"{exports[0].path}: there is no complete stretch with klines to fit to ({'; '.join(notes) or 'no alerts'})"
        )
    segments = without_overlaps(segments, notes)
    predictions = Predictions(config)
    rows, changes = fit(config, segments, predictions, grids=grids, rates=rates_of(counts, source), advance=advance)
    sources = ", ".join(dict.fromkeys(export.path.name for export in exports))
    report: dict[str, Any] = {
        "export": {"kind": "alert stream", "file": sources, "stretches": len(segments)},
        "grids": [row for row in rows if row["tried"]],
        "changes": changes,
        "not_fitted": [{"grid": row["grid"], "reason": row["reason"]} for row in rows if not row["tried"]],
        "not_accepted": [
            {"grid": row["grid"], "value": row["value"], "reason": row["reason"]}
            for row in rows
            if row["tried"] and not row["accepted"]
        ],
        "not_computed": left_out,
        "notes": list(dict.fromkeys(notes)),
        "profile": profile_text(name, changes, sources),
    }
    report["verdict"] = _verdict(report)
    return report


def _verdict(report: Mapping[str, Any]) -> list[str]:
    sentences = []
    for row in report["grids"]:
        if row["accepted"]:
            words = ", ".join(f"{name} {row['was'][name]} → {value}" for name, value in row["value"].items())
            sentences.append(
                f"{row['grid']}: {words}; F1 {row['train_before']:.2f} → {row['train_after']:.2f} (chance at most "
                f"{row['train_chance']:.2f}), on the rest {row['holdout_before']:.2f} → {row['holdout_after']:.2f}"
            )
        else:
            words = ", ".join(f"{name} = {value}" for name, value in row["value"].items())
            sentences.append(f"{row['grid']}: {words + ': ' if words else ''}{row['reason']}")
    if not report["grids"]:
        sentences.append("nothing could be fitted: no feature has enough alerts on a complete stretch")
    elif not report["changes"]:
        sentences.append("the profile is empty: keep the settings as they are")
    if report["not_computed"]:
        sentences.append(f"not computed here, so not fitted: {', '.join(report['not_computed'])}")
    return sentences
