"""From figures to sentences: does it match, where not, and what is the likely cause.

Causes are tried, not guessed: the same column one bar earlier or later, the same feature with another setting, the first
part of the time against the last, the export's bars against ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import BotError
from bot.market.store import format_time
from bot.parity.bind import Binding, columns_of, values_of
from bot.parity.ours import Ours, changed
from bot.parity.score import ParityScore, quality, score
from bot.parity.spaces import space_of
from bot.strategy.rules import TITLES

PERFECT: Final = 1.0 - 1e-12
FEW: Final = 0.02  # up to this share of differing bars they are named one by one
FADING: Final = 20  # differing bars from which on a warm-up can be told from chance
MUCH_BETTER: Final = 0.25  # a cause is believed when it leaves less than this part of the misses


@dataclass(frozen=True, slots=True)
class Cause:
    """A likely cause: a short code, the rest of a sentence, and the setting that it is about, if it is one."""

    code: str
    words: str
    setting: tuple[str, Any] | None = None


def bar_word(at_ms: int) -> str:
    """Return a bar as it is named to a person."""
    return format_time(at_ms)[:16].replace("T", " ")


def bars_list(times: list[int], count: int) -> str:
    """Return the first five of so many bars, named."""
    more = f" and {count - len(times[:5])} more" if count > 5 else ""
    return ", ".join(bar_word(at) for at in times[:5]) + more


def loss(result: ParityScore, ours: np.ndarray, theirs: np.ndarray, keep: np.ndarray) -> float:
    """Return what a cause has to lower: for a line the median distance over its spread, else the share of misses."""
    if result.kind != "plot":
        return max(1.0 - quality(result), 1.0 - result.agree if result.kind == "state" else 0.0)
    both = keep & np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        return 1.0
    spread = float(np.std(theirs[both])) or 1.0
    return float(np.mean(np.abs(ours[both] - theirs[both]))) / spread


def shifted(values: np.ndarray, bars: int) -> np.ndarray:
    """Return a series moved later by `bars` (earlier when negative), NaN where nothing comes in."""
    out = np.full(len(values), np.nan)
    if bars > 0:
        out[bars:] = values[:-bars]
    else:
        out[:bars] = values[-bars:]
    return out


class Diagnosis:
    """Tries causes for one comparison; tables of other settings are computed once and shared by all columns."""

    def __init__(
        self, ours: Ours, config: Config, keep: np.ndarray, bindings: Sequence[Binding], *, enough: int = 40
    ) -> None:
        self.ours, self.config, self.keep, self.enough = ours, config, keep, enough
        self._wanted = columns_of(bindings)
        self._tables: dict[tuple[str, Any], Any] = {}

    def cause(self, binding: Binding, result: ParityScore, values: np.ndarray) -> Cause | None:
        """Return the likely cause of a column's distance, None if none of those tried explains it."""
        theirs = binding.column.values
        if result.bars < self.enough:
            return None
        now = loss(result, values, theirs, self.keep)
        if now <= 1e-9:
            return None
        for tried in (self._shift, self._setting, self._warm_up):
            if tried == self._warm_up and result.differing < FADING:
                continue
            found = tried(binding, values, theirs, now)
            if found is not None:
                return found
        return None

    def _loss(self, binding: Binding, values: np.ndarray, theirs: np.ndarray, keep: np.ndarray | None = None) -> float:
        kept = self.keep if keep is None else keep
        return loss(score(binding.kind, values, theirs, self.ours.at_ms, kept), values, theirs, kept)

    def _shift(self, binding: Binding, values: np.ndarray, theirs: np.ndarray, now: float) -> Cause | None:
        for bars in (1, -1, 2, -2):
            moved = shifted(values, bars)
            if binding.kind != "plot":
                moved = np.nan_to_num(moved)
            if self._loss(binding, moved, theirs) < MUCH_BETTER * 0.2 * now:
                word = "late" if bars > 0 else "early"
                return Cause("shift", f"it stands {abs(bars)} bar{'s' * (abs(bars) > 1)} {word} on the chart")
        return None

    def causes(self, columns: Sequence[tuple[Binding, ParityScore, np.ndarray]]) -> list[Cause | None]:
        """Return the likely cause of each column; a setting found for one is tried on those that stay unexplained."""
        found = [self.cause(*column) for column in columns]
        known = dict.fromkeys(cause.setting for cause in found if cause is not None and cause.setting is not None)
        for i, (binding, result, values) in enumerate(columns):
            if found[i] is not None or result.bars < self.enough:
                continue
            theirs = binding.column.values
            now = loss(result, values, theirs, self.keep)
            for setting in known:
                if (
                    self._loss(binding, values_of(binding, self.ours, self._table(*setting)), theirs)
                    <= MUCH_BETTER * now
                ):
                    found[i] = self._setting_cause(*setting)
                    break
        return found

    def _table(self, name: str, value: Any) -> Any:
        if (name, value) not in self._tables:
            self._tables[name, value] = self.ours.with_config(changed(self.config, {name: value}), self._wanted)
        return self._tables[name, value]

    def _setting_cause(self, name: str, value: Any) -> Cause:
        section, setting = name.split(".")
        present = getattr(getattr(self.config, section), setting)
        return Cause("setting", f"the chart uses {name} = {value}, this bot {present}", (name, value))

    def _alternatives(self, family: str) -> Iterator[tuple[str, Any]]:
        space = space_of(family)
        for setting in space.settings if space is not None else ():
            section, name = setting.name.split(".")
            present = getattr(getattr(self.config, section), name)
            for value in setting.values:
                if value != present:
                    yield setting.name, value

    def _setting(self, binding: Binding, values: np.ndarray, theirs: np.ndarray, now: float) -> Cause | None:
        best: tuple[float, str, Any] | None = None
        for name, value in self._alternatives(binding.family):
            try:
                table = self._table(name, value)
            except (BotError, ValueError):
                continue  # two settings that exclude each other: that combination cannot be the cause
            found = self._loss(binding, values_of(binding, self.ours, table), theirs)
            if best is None or found < best[0]:
                best = (found, name, value)
        if best is None or best[0] > MUCH_BETTER * now:
            return None
        return self._setting_cause(best[1], best[2])

    def _warm_up(self, binding: Binding, values: np.ndarray, theirs: np.ndarray, now: float) -> Cause | None:
        places = np.flatnonzero(self.keep)
        third = len(places) // 3
        if third < 30:
            return None
        late = np.zeros(len(self.keep), bool)
        late[places[-third:]] = True
        if self._loss(binding, values, theirs, late) > 0.1 * now:
            return None
        return Cause(
            "warm_up", "warm-up: it fades with time, the chart's indicator began on earlier bars than the export"
        )


def sentence(binding: Binding, result: ParityScore, cause: Cause | None) -> str:
    """Return what is said about a column that does not agree everywhere."""
    name, feature = binding.column.label, binding.feature
    if result.bars == 0:
        return f"{name}: no bar on which both sides have a value"
    where = bar_word(result.first_divergent_ms) if result.first_divergent_ms is not None else ""
    because = f": {cause.words}" if cause is not None else ""
    if 0 < result.differing <= max(1, FEW * result.bars) and (cause is None or cause.code != "setting"):
        named = ", ".join(bar_word(at) for at in result.examples_ms)
        more = (
            f" and {result.differing - len(result.examples_ms)} more"
            if result.differing > len(result.examples_ms)
            else ""
        )
        share = f"{result.differing} of {result.bars:,} bars"
        return f"{name} ({feature}) differs on {share}, {named}{more}{because or marks(result)}"
    figures = result.figures
    if result.kind == "plot":
        r = figures["correlation"]
        told = f"median error {figures['median_error']:.4g}" + (f", correlation {r:.3f}" if r is not None else "")
    elif result.kind == "state":
        told = f"agrees on {100 * result.agree:.1f} % of the bars"
    else:
        told = _event_words(figures)
    return f"{name} ({feature}): {told}, first on {where}{because}"


def marks(result: ParityScore) -> str:
    """Return which side lacks marks, for the sentence of a column that differs on few bars."""
    if result.kind == "plot":
        return ""
    figures = result.figures
    parts = [f"{figures['only_theirs']} on the chart only"] if figures["only_theirs"] else []
    parts += [f"{figures['only_ours']} only here"] if figures["only_ours"] else []
    return f": {', '.join(parts)}" if parts else ""


def _event_words(figures: dict[str, Any]) -> str:
    def part(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    return (
        f"{figures['theirs']} on the chart, {figures['ours']} here; precision {part(figures['precision_0'])}, recall "
        f"{part(figures['recall_0'])} (within a bar {part(figures['precision_1'])}, {part(figures['recall_1'])})"
    )


def signals_sentence(conditions: Mapping[str, Any]) -> str | None:
    """Return what is said of the whole signal: how many both have, and how many only one side has; None without any."""
    found = [rows["signal"] for rows in conditions.values() if "signal" in rows]
    if not found:
        return None
    mine, only_mine, only_yours = (sum(score[key] for score in found) for key in ("ours", "only_ours", "only_theirs"))
    every = mine + only_yours
    if not every:
        return "whole signal: neither side has one in this time"
    if not only_mine and not only_yours:
        return f"whole signal: all {every} in both"
    return f"whole signal: {mine - only_mine} of {every} in both, {only_mine} only here, {only_yours} only on the chart"


def borrowed_sentence(conditions: Mapping[str, Any]) -> str | None:
    """Return which conditions of the whole signal are ours on both sides, because the export lacks them; None without any."""
    found = [rows["signal"].get("borrowed", ()) for rows in conditions.values() if "signal" in rows]
    names = dict.fromkeys(TITLES[tag] for borrowed in found for tag in borrowed)
    return f"not in the export, so ours on both sides of the signal: {', '.join(names)}" if names else None


def feed_sentence(own: float, klines: float, *, same_market: bool) -> str | None:
    """Return the sentence on where the rest comes from: agreement on the export's bars against that on our klines."""
    both = f"on the export's own bars {100 * own:.2f} % agrees, on these klines {100 * klines:.2f} %"
    if own - klines >= 0.0005:
        why = "missing or differing bars" if same_market else "another market"
        return f"{both}: the rest is the feed ({why}), not the formulas"
    if klines - own >= 0.0005:
        return f"{both}: the rest is warm-up, the klines reach further back than the export"
    return None
