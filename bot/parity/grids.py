"""The closed grids that `calibrate` tries on alerts: for each feature its settings and named readings, and nothing else.

A grid is the product of its axes; a new setting is one more `Axis` in the grid of its feature. The values are
deliberately few and round: the chance level of a fit is the best of the same grid on shifted alerts, and rises with
every value. `docs/indicators.md` lists the table; a test keeps both equal.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from bot.config import Config


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting (`section.key`) and the values to try: numbers, or names of readings."""

    setting: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid: its name, the features (`alert_names.FEATURES`) whose alerts judge it, and its axes."""

    name: str
    judges: tuple[str, ...]
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        """Return the number of combinations."""
        count = 1
        for axis in self.axes:
            count *= len(axis.values)
        return count

    def values(self) -> Iterator[dict[str, Any]]:
        """Iterate over all combinations of settings."""
        names = [axis.setting for axis in self.axes]
        for choice in itertools.product(*(axis.values for axis in self.axes)):
            yield dict(zip(names, choice, strict=True))


# In dependency order: what later features read is fitted first.
GRIDS: Final = (
    Grid(
        "HyperWave",
        ("hyperwave_cross",),
        (
            Axis("oscillator.hyperwave_smoothing", ("off", "super")),
            Axis("oscillator.hyperwave_length", (5, 6, 7, 8, 9, 10, 14)),
            Axis("oscillator.hyperwave_source", ("ohlc4", "close")),
            Axis("oscillator.hyperwave_average", ("sma", "ema", "rma")),
            Axis("oscillator.hyperwave_inner", (2, 3, 4, 5)),
            Axis("oscillator.signal_length", (2, 3, 4, 5)),
            Axis("oscillator.signal_average", ("sma", "ema")),
        ),
    ),
    Grid("big dots", ("hyperwave_big",), (Axis("oscillator.big_dot_edge", (15.0, 20.0, 25.0, 30.0, 35.0)),)),
    Grid(
        "reversals",
        ("reversal_minor", "reversal_major"),
        (
            Axis("oscillator.reversal_factor", tuple(range(1, 11))),
            Axis("oscillator.reversal_major", ("cross", "volume")),
        ),
    ),
    Grid(
        "divergences",
        ("divergence",),
        (
            Axis("oscillator.divergence_sensitivity", (2, 5, 8, 10, 12, 15, 18, 20, 22, 25, 30, 35, 40, 45)),
            Axis("oscillator.divergence_prominence", (30.0, 32.0, 40.0, 50.0)),
        ),
    ),
    Grid(
        "internal structure",
        ("internal_bos", "internal_choch", "internal_choch_plus"),
        (
            Axis("pac.structure_length", tuple(range(3, 16))),
            Axis("pac.break_source", ("close", "ohlc4")),
        ),
    ),
    Grid(
        "swing structure",
        ("swing_bos", "swing_choch"),
        (Axis("smc.swing_length", (20, 25, 30, 35, 40, 45, 50, 55, 60, 75, 100)),),
    ),
    Grid(
        "order blocks",
        ("block_created", "block_entered", "block_within", "block_mitigated", "breaker"),
        (
            Axis("pac.block_life", ("plain", "breaker")),
            Axis("pac.order_block_length", (3, 4, 5, 6, 7, 8, 10, 12)),
            Axis("pac.hide_overlap", ("both", "same", "off")),
            Axis("pac.mitigation", ("close", "wick", "average")),
            Axis("pac.show", (3, 5, 10)),
        ),
    ),
    Grid(
        "imbalances",
        ("imbalance_new", "imbalance_mitigated"),
        (
            Axis("pac.fvg_threshold", (0.0, 0.1, 0.2, 0.3, 0.4, 0.53, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)),
            Axis("pac.fvg_measure", ("gap", "body")),
        ),
    ),
    Grid("trend lines", ("trend_line_break",), (Axis("pac.trend_line_length", (0, 5, 7, 9, 11, 13, 15, 20)),)),
    Grid(
        "liquidity grabs",
        ("grab",),
        (
            Axis("pac.grab_min_wick_body", (0.0, 0.25, 0.5, 0.75, 1.0)),
            Axis("pac.grab_cooldown", (0, 1, 2, 3, 5)),
        ),
    ),
    Grid(
        "equal highs and lows",
        ("equal",),
        (
            Axis("pac.equal_length", tuple(range(1, 9))),
            Axis("pac.equal_threshold", (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3)),
        ),
    ),
    Grid(
        "confirmations",
        ("confirmation",),
        (
            Axis(
                "overlays.sensitivity",
                (4.0, 6.0, 8.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 18.0, 20.0, 25.0, 30.0),
            ),
            Axis("overlays.autopilot", ("off", "short", "mid", "long")),
            Axis("overlays.confirmation_least", (0.25, 0.5)),
            Axis("overlays.confirmation_pace", (0.05, 0.1)),
            Axis("overlays.confirmation_crossed", ("up", "turn")),
            Axis("overlays.confirmation_repeat", ("none", "turned")),
        ),
    ),
    Grid(
        "strong label",
        ("confirmation_strong",),
        (Axis("overlays.strong_length", (50, 80, 100, 120, 144, 170, 200)),),
    ),
    Grid(
        "exits",
        ("exit",),
        (
            Axis("overlays.exit_rule", ("leaving", "entering")),
            Axis("overlays.exit_length", (7, 10, 14, 21)),
            Axis("overlays.exit_level", (10.0, 15.0, 20.0, 25.0, 30.0)),
        ),
    ),
    Grid("Smart Trail", ("smart_trail",), (Axis("overlays.smart_trail", (1, 2, 3, 4, 5)),)),
    Grid(
        "Trend Catcher",
        ("trend_catcher",),
        (
            Axis("overlays.trend_catcher", (1, 2, 3, 4, 5)),
            Axis("overlays.catcher_length", (18, 20, 25)),
            Axis("overlays.catcher_pace", ("squared", "plain")),
            Axis("overlays.catcher_fast", (2.0, 4.0)),
            Axis("overlays.catcher_slow", (30.0, 45.0, 100.0)),
            Axis("overlays.catcher_band", (0.02, 0.08, 0.16)),
        ),
    ),
    Grid(
        "Trend Tracer",
        ("trend_tracer",),
        (Axis("overlays.trend_tracer", (1, 2, 3, 4, 5)), Axis("overlays.tracer_factor", (6.0, 8.0, 10.0))),
    ),
    Grid(
        "Neo Cloud",
        ("neo_cloud",),
        (
            Axis("overlays.neo_cloud", (1, 2, 3, 4, 5)),
            Axis("overlays.cloud_stretch", (1.0, 3.0, 4.0, 5.0, 6.0, 8.0)),
            Axis("overlays.cloud_width", (1.0, 2.0, 3.0)),
        ),
    ),
)


def present(config: Config, setting: str) -> Any:
    """Return the current value of a setting."""
    section, name = setting.split(".")
    return getattr(getattr(config, section), name)


def _words(values: tuple[Any, ...]) -> str:
    """Return the values of an axis as text, a run of consecutive integers as its ends.

    >>> _words((3, 4, 5, 6)), _words(("sma", "ema")), _words((2, 5, 8)), _words((4.0, 5.0, 6.0))
    ('3 to 6', 'sma, ema', '2, 5, 8', '4 to 6')
    """
    if len(values) > 2 and all(not isinstance(value, str) and value == values[0] + i for i, value in enumerate(values)):
        return f"{values[0]:g} to {values[-1]:g}"
    return ", ".join(value if isinstance(value, str) else f"{value:g}" for value in values)


def document() -> list[str]:
    """Return the rows of the table in `docs/indicators.md`."""
    lines = ["| grid | judged by the alerts of | settings and readings | values |", "|---|---|---|---|"]
    for grid in GRIDS:
        axes = " · ".join(f"`{axis.setting}`: {_words(axis.values)}" for axis in grid.axes)
        judges = ", ".join(judge.replace("_", " ") for judge in grid.judges)
        lines.append(f"| {grid.name} | {judges} | {axes} | {len(grid):,} |")
    return lines
