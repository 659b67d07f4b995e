"""`calibrate`: fit the open settings of the re-created indicators to a chart, and keep those that hold out of sample.

The first 70 % of the export, after the warm-up, are the training part; the last 30 % are the holdout: a setting is
changed only when it clearly lowers the distance there too, and on a second symbol if one is given. Families are fitted
in the order in which they build on each other (premium indicators 7.3), each setting in turn until none changes. The
result is a profile for `config.toml`, and a list of what could not be fitted and why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import BotError, DataError
from bot.parity.bind import Binding, Bound, bind, columns_of, load_bind, remember, values_of
from bot.parity.compare import aligned_export, kept_bars, klines_source
from bot.parity.exports import ChartData
from bot.parity.ours import Ours, changed
from bot.parity.reading import kind_of, read_export
from bot.parity.score import score
from bot.parity.spaces import NOT_FITTED, SPACES, Setting, Space
from bot.parity.variants import best_variant
from bot.parity.verdict import loss

TRAIN: Final = 0.7
FEWEST: Final = 200  # bars after the warm-up
ROUNDS: Final = 3  # maximum passes over each family's settings
CLEAR: Final = 0.02  # a change must lower the holdout loss by this fraction, or to zero
ALONG: Final = 0.5  # minimum correlation of lines on the holdout: a flat line is close to noise, but says nothing
FEW_MARKS: Final = 5  # an event with fewer marks in a part is not used


@dataclass(slots=True)
class Sample:
    """One export ready for fitting: its bindings, our side, and the training and holdout masks."""

    data: ChartData
    bound: Bound
    ours: Ours
    train: np.ndarray
    holdout: np.ndarray
    wanted: frozenset[str]


@dataclass(slots=True)
class FitStep:
    """One setting that was tried: its old value, the best value, and the losses before and after."""

    family: str
    setting: str
    was: Any
    value: Any
    train_before: float
    train_after: float
    holdout_before: float
    holdout_after: float
    second_before: float | None
    second_after: float | None
    accepted: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the step as one object."""
        return {name: getattr(self, name) for name in self.__slots__}


def load_sample(
    config: Config, path: Path, klines: Path | None, bind_file: Path | None, warm_up: int | None, *, required: bool
) -> Sample:
    """Read an export, bind its columns and split it into training part and holdout.

    Parameters
    ----------
    config
        Configuration of our side.
    path
        The export.
    klines
        Folder or file with klines; None for the bot's own.
    bind_file
        Columns bound by hand; None for the remembered ones.
    warm_up
        Bars left out at the start; None for the default.
    required
        Whether missing klines are an error.

    Raises
    ------
    DataError
        It is not chart data, or too short to be split.
    """
    data = read_export(path)
    if not isinstance(data, ChartData):
        raise DataError(
            f"{path} is a {kind_of(data)}: calibrate needs chart data (Export chart data, with the plots on)"
        )
    by_hand = load_bind(bind_file, data.fingerprint, data.header)
    ours, aligned = aligned_export(config, data, klines_source(klines), required=required)
    keep, _ = kept_bars(data, aligned, warm_up)
    places = np.flatnonzero(keep)
    if len(places) < FEWEST:
        raise DataError(
            f"{path} has {len(places)} bars after the warm-up; a fit needs {FEWEST} at least, better 5,000: load more bars"
        )
    cut = places[int(len(places) * TRAIN)]
    at = np.arange(len(keep))
    bound = bind(data, ours, by_hand)
    if bind_file is not None:
        remember(data.fingerprint, by_hand, data.header)
    return Sample(data, bound, ours, keep & (at < cut), keep & (at >= cut), columns_of(bound.bindings))


class Judge:
    """Measures the distance of a family from the chart under given settings."""

    def __init__(self, config: Config, sample: Sample, space: Space) -> None:
        self.config, self.sample = config, sample
        self.bindings = [
            b for name in space.judges for b in sample.bound.bindings if b.feature == name and self._usable(b)
        ]
        self._known: dict[tuple[tuple[str, Any], ...], tuple[float, float, float]] = {}

    def _usable(self, binding: Binding) -> bool:
        if binding.needs_volume and self.sample.data.volume is None:
            return False
        if binding.kind == "plot":
            return True
        marks = np.nan_to_num(binding.column.values) != 0.0
        return bool(min((marks & part).sum() for part in (self.sample.train, self.sample.holdout)) >= FEW_MARKS)

    def measure(self, changes: Mapping[str, Any]) -> tuple[float, float, float]:
        """Return the mean distance of the family's columns on training part and holdout, and their holdout correlation.

        Distances are infinite for settings that exclude each other. The correlation is the mean over lines, 1 without
        lines. Each combination is computed once.
        """
        key = tuple(sorted(changes.items()))
        if key not in self._known:
            self._known[key] = self._measured(changes)
        return self._known[key]

    def _measured(self, changes: Mapping[str, Any]) -> tuple[float, float, float]:
        sample = self.sample
        try:
            table = sample.ours.with_config(changed(self.config, changes), sample.wanted)
        except (BotError, ValueError):
            return float("inf"), float("inf"), 0.0
        found: list[list[float]] = [[], []]
        along: list[float] = []
        for binding in self.bindings:
            values, theirs = values_of(binding, sample.ours, table), binding.column.values
            for i, part in enumerate((sample.train, sample.holdout)):
                result = score(binding.kind, values, theirs, sample.ours.at_ms, part)
                found[i].append(loss(result, values, theirs, part))
                if i and binding.kind == "plot":
                    along.append(result.figures["correlation"] or 0.0)
        return float(np.mean(found[0])), float(np.mean(found[1])), float(np.mean(along)) if along else 1.0


def _clearly_lower(after: float, before: float) -> bool:
    return after <= before * (1.0 - CLEAR) - 1e-12


def _best(judge: Judge, setting: Setting, changes: dict[str, Any], present: Any) -> tuple[Any, float]:
    """Return the value of a setting with the lowest training loss, and that loss; the present value wins ties."""
    best, least = present, judge.measure(changes)[0]
    for value in setting.values:
        if value != present:
            found = judge.measure(changes | {setting.name: value})[0]
            if found < least * (1.0 - 1e-6):
                best, least = value, found
    return best, least


def _present(config: Config, changes: Mapping[str, Any], name: str) -> Any:
    section, setting = name.split(".")
    return changes.get(name, getattr(getattr(config, section), setting))


def fit_family(
    config: Config, judge: Judge, second: Judge | None, space: Space, changes: dict[str, Any], tick: Callable[[], None]
) -> list[FitStep]:
    """Fit one family's settings in turn; accepted values are written to `changes`.

    Parameters
    ----------
    config
        Configuration before the fit.
    judge, second
        Judges of the export and of the second symbol (None without one).
    space
        The family's settings and their values.
    changes
        Accepted settings so far, by `section.key`; updated in place.
    tick
        Called once per setting tried.
    """
    steps: list[FitStep] = []
    for _ in range(ROUNDS):
        moved = False
        for setting in space.settings:
            was = _present(config, changes, setting.name)
            before, held_before, _ = judge.measure(changes)
            value, after = _best(judge, setting, changes, was)
            tick()
            if value == was:
                continue
            tried = changes | {setting.name: value}
            _, held_after, along = judge.measure(tried)
            holdout = held_before, held_after
            agrees = along >= ALONG
            other: tuple[float | None, float | None] = (None, None)
            if second is not None and second.bindings:
                other = sum(second.measure(changes)[:2]) / 2, sum(second.measure(tried)[:2]) / 2
                agrees = agrees and _clearly_lower(other[1] or 0.0, other[0] or 0.0)
            accepted = _clearly_lower(*reversed(holdout)) and agrees
            step = FitStep(space.family, setting.name, was, value, before, after, *holdout, *other, accepted)
            if not any((s.setting, s.value, s.was) == (step.setting, step.value, step.was) for s in steps):
                steps.append(step)
            if accepted:
                changes[setting.name] = value
                moved = True
        if not moved:
            break
    return steps


def profile_text(name: str, changes: Mapping[str, Any], source: str) -> str:
    """Return the accepted changes as a profile of `config.toml`.

    >>> print(profile_text("mine", {"oscillator.hyperwave_length": 14, "overlays.autopilot": "off"}, "a.csv"))
    [profile.mine]                          # fitted to a.csv
    oscillator = { hyperwave_length = 14 }
    overlays = { autopilot = "off" }
    <BLANKLINE>
    """
    sections: dict[str, list[str]] = {}
    for key, value in changes.items():
        section, setting = key.split(".")
        word = (
            f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
        )
        sections.setdefault(section, []).append(f"{setting} = {word}")
    lines = [f"{section} = {{ {', '.join(settings)} }}" for section, settings in sections.items()]
    head = f"[profile.{name}]"
    return "\n".join([f"{head:<40}# fitted to {source}", *lines]) + "\n"


def calibrate(
    config: Config,
    path: Path,
    *,
    klines: Path | None = None,
    second: Path | None = None,
    bind_file: Path | None = None,
    warm_up: int | None = None,
    name: str = "calibrated",
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Fit the open settings to an export and return the report with the profile.

    Parameters
    ----------
    config
        Configuration before the fit.
    path
        The export: chart data.
    klines
        Folder or file with klines; None for the bot's own.
    second
        Chart data of another symbol with the same indicators; a change must help there too.
    bind_file
        Columns bound by hand; None for the remembered ones.
    warm_up
        Bars left out at the start; None for the default.
    name
        Name of the profile.
    advance
        Called with the progress, 0 to 100.

    Raises
    ------
    DataError
        An export is not chart data, or too short to be split.
    """
    sample = load_sample(config, path, klines, bind_file, warm_up, required=klines is not None)
    other = None if second is None else load_sample(config, second, klines, None, warm_up, required=False)
    changes: dict[str, Any] = {}
    families: list[dict[str, Any]] = []
    not_fitted: list[dict[str, str]] = []
    total = sum(len(space.settings) for space in SPACES)
    done = [0]

    def tick() -> None:
        done[0] += 1
        if advance is not None:
            advance(min(99, int(100 * done[0] / total)))

    for space in SPACES:
        judge = Judge(config, sample, space)
        if not judge.bindings:
            reason = (
                "no column of it is bound" if not _bound(sample, space) else "too few marks, or no volume in the export"
            )
            not_fitted.append({"family": space.family, "reason": reason})
            continue
        start = judge.measure(changes)
        steps = fit_family(config, judge, None if other is None else Judge(config, other, space), space, changes, tick)
        end = judge.measure(changes)
        families.append(_family(config, space, judge, start, end, steps, changes))
        if end[1] > 1e-9 and space.family in NOT_FITTED:
            not_fitted.append({"family": space.family, "reason": NOT_FITTED[space.family]})
    report: dict[str, Any] = {
        "export": {"file": path.name, "bars": len(sample.data.open_ms), "second": second.name if second else None},
        "train_bars": int(sample.train.sum()),
        "holdout_bars": int(sample.holdout.sum()),
        "families": families,
        "changes": changes,
        "not_fitted": not_fitted,
        "notes": sample.data.notes,
        "profile": profile_text(name, changes, path.name),
    }
    report["verdict"] = _verdict(report, config)
    return report


def _bound(sample: Sample, space: Space) -> bool:
    return any(binding.feature in space.judges for binding in sample.bound.bindings)


def _family(
    config: Config,
    space: Space,
    judge: Judge,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    steps: list[FitStep],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    sample = judge.sample
    return {
        "family": space.family,
        "spec": space.spec,
        "judged_by": [binding.column.label for binding in judge.bindings],
        "train_before": start[0],
        "train_after": end[0],
        "holdout_before": start[1],
        "holdout_after": end[1],
        "steps": [step.as_dict() for step in steps],
        "variant": best_variant(
            space.family, judge.bindings, sample.ours, changed(config, changes), sample.train, sample.holdout
        ),
    }


def _verdict(report: dict[str, Any], config: Config) -> list[str]:
    said = []
    for family in report["families"]:
        taken = [step for step in family["steps"] if step["accepted"]]
        refused = [step for step in family["steps"] if not step["accepted"]]
        name = family["family"]
        before, after = family["holdout_before"], family["holdout_after"]
        if taken:
            final = {s["setting"]: (s["was"], report["changes"][s["setting"]]) for s in reversed(taken)}
            words = ", ".join(f"{key} {was} → {value}" for key, (was, value) in final.items())
            said.append(f"{name}: {words}; distance on the holdout {before:.3g} → {after:.3g}")
        elif before <= 1e-6:
            said.append(f"{name}: agrees as set")
        else:
            said.append(f"{name}: no setting that helps the holdout; distance {before:.3g} stays")
        said += [
            f"{name}: {step['setting']} = {step['value']} would fit the first 70 % better, but not the rest; {step['was']} stays"
            for step in refused
        ]
        variant = family["variant"]
        if variant is not None:
            said.append(f"{name}: {variant['words']}")
    if not report["families"]:
        said.append("nothing could be fitted: no column of a feature with open settings is bound; use --bind FILE")
    elif not report["changes"]:
        said.append("the profile is empty: keep the settings as they are")
    return said
