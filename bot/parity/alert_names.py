"""Names of the any-alert conditions of the three toolkits, and the columns of ours that correspond to each.

`ALERTS` is the only mapping from names to our columns: a new column is entered in the row of its alert. `FEATURES`
groups alerts that are judged together, such as the crosses of HyperWave, whose alert is replaced by that of the
oversold or overbought zone when there is one (the totals of both sides are equal only with them). A row without a
reading is named but not compared. `docs/alerts.md` holds the same table; a test keeps both equal.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from bot.strategy import kernel as k

Table = Mapping[str, np.ndarray]
Leaves = frozenset[str]


@dataclass(frozen=True, slots=True)
class NameReading:
    """How an alert's bars are found in our columns: a description, the required columns, and a function for the flags."""

    words: str
    columns: tuple[str, ...]
    flags: Callable[[Table], np.ndarray]

    @property
    def known(self) -> bool:
        """Whether all its columns are computed."""
        return all(name in k.COLUMNS for name in self.columns)


@dataclass(frozen=True, slots=True)
class NamedAlert:
    """One any-alert condition: its toolkit, its name, its reading (None: not computed) and its alternative names."""

    toolkit: str
    name: str
    reading: NameReading | None
    others: tuple[str, ...] = ()

    @property
    def read(self) -> NameReading | None:
        """The reading, None where no column of ours corresponds."""
        return self.reading if self.reading is not None and self.reading.known else None


@dataclass(frozen=True, slots=True)
class AlertFeature:
    """Alerts that are judged together: key, label, and for each side the alerts that fire it."""

    key: str
    label: str
    sides: tuple[Leaves, ...]

    @property
    def leaves(self) -> Leaves:
        """All its alerts."""
        return frozenset().union(*self.sides)

    @property
    def computed(self) -> bool:
        """Whether every side has a reading."""
        return all(all(BY_NAME[name].read is not None for name in side) for side in self.sides)

    @property
    def columns(self) -> frozenset[str]:
        """The columns of ours that it reads."""
        readings = (BY_NAME[name].read for name in self.leaves)
        return frozenset(column for reading in readings if reading is not None for column in reading.columns)

    def marks(self, table: Table) -> list[np.ndarray]:
        """Return for each side a bool array of the bars on which ours fires; only for a computed feature."""
        found = []
        for side in self.sides:
            readings = {reading.words: reading for name in side if (reading := BY_NAME[name].read) is not None}
            found.append(np.logical_or.reduce([reading.flags(table) for reading in readings.values()]))
        return found

    def side_of(self, leaves: Leaves) -> int | None:
        """Return the index of the side that contains all of `leaves`, None if no side does."""
        return next((i for i, side in enumerate(self.sides) if leaves and leaves <= side), None)


# ---- readings -------------------------------------------------------------------------------------------------------


def _on(column: str, unless: str | None = None) -> NameReading:
    """Return a reading of a column above 0, except where another column is."""
    words = f"`{column}` > 0" + (f", unless `{unless}`" if unless else "")
    columns = (column,) if unless is None else (column, unless)

    def flags(table: Table) -> np.ndarray:
        found = table[column] > 0.0
        return found if unless is None else found & ~(table[unless] > 0.0)

    return NameReading(words, columns, flags)


def _is(column: str, value: int) -> NameReading:
    return NameReading(f"`{column}` = {value}", (column,), lambda table: table[column] == value)


def _break(event: int, side: int) -> NameReading:
    words = f"`pac_event` = {event} and `pac_dir` = {side}"
    return NameReading(
        words, ("pac_event", "pac_dir"), lambda table: (table["pac_event"] == event) & (table["pac_dir"] == side)
    )


def _begins(state: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return where a state begins after a bar on which it was known and false."""
    found = np.zeros(len(state), bool)
    found[1:] = state[1:] & known[1:] & known[:-1] & ~state[:-1]
    return found


def _turn(column: str, side: int) -> NameReading:
    def flags(table: Table) -> np.ndarray:
        values = table[column]
        return _begins(values == side, np.isfinite(values) & (values != 0.0))

    return NameReading(f"`{column}` turns {side}", (column,), flags)


def _cloud(side: int) -> NameReading:
    def flags(table: Table) -> np.ndarray:
        apart = side * (table["so_neo_lead"] - table["so_neo_lag"])
        return _begins(apart > 0.0, np.isfinite(apart))

    word = "above" if side > 0 else "below"
    return NameReading(f"`so_neo_lead` comes to lie {word} `so_neo_lag`", ("so_neo_lead", "so_neo_lag"), flags)


def _either(column: str) -> NameReading:
    return NameReading(f"`{column}` is not 0", (column,), lambda table: np.nan_to_num(table[column]) != 0.0)


_OM, _PAC, _SO = "Oscillator Matrix", "Price Action Concepts", "Signals & Overlays"

ALERTS: Final = (
    NamedAlert(
        _OM,
        "HyperWave Signal Up",
        _on("om_cross_up", "om_big_up"),
        ("HWO Up", "HyperWave Up", "HyperWave Bullish", "HyperWave Cross Up"),
    ),
    NamedAlert(
        _OM,
        "HyperWave Signal Down",
        _on("om_cross_down", "om_big_down"),
        ("HWO Down", "HyperWave Down", "HyperWave Bearish", "HyperWave Cross Down"),
    ),
    NamedAlert(_OM, "HyperWave OS Signal Up", _on("om_big_up"), ("Oversold HWO Up", "Oversold HyperWave Signal")),
    NamedAlert(
        _OM, "HyperWave OB Signal Down", _on("om_big_down"), ("Overbought HWO Down", "Overbought HyperWave Signal")
    ),
    NamedAlert(
        _OM, "Reversal Up", _on("om_reversal_minor_up"), ("Minor Reversal Up", "Bullish Reversal", "Reversal Up -")
    ),
    NamedAlert(
        _OM,
        "Reversal Down",
        _on("om_reversal_minor_down"),
        ("Minor Reversal Down", "Bearish Reversal", "Reversal Down -"),
    ),
    NamedAlert(
        _OM, "Reversal Up +", _on("om_reversal_major_up"), ("Major Reversal Up", "Bullish Reversal+", "Reversal+ Up")
    ),
    NamedAlert(
        _OM,
        "Reversal Down +",
        _on("om_reversal_major_down"),
        ("Major Reversal Down", "Bearish Reversal+", "Reversal+ Down"),
    ),
    NamedAlert(_OM, "Bullish Divergence", _on("om_divergence_bull"), ("Divergence Up", "Realtime Bullish Divergence")),
    NamedAlert(
        _OM, "Bearish Divergence", _on("om_divergence_bear"), ("Divergence Down", "Realtime Bearish Divergence")
    ),
    NamedAlert(_PAC, "Bullish I-BOS", _break(1, 1), ("Bullish BOS",)),
    NamedAlert(_PAC, "Bearish I-BOS", _break(1, -1), ("Bearish BOS",)),
    NamedAlert(_PAC, "Bullish I-CHOCH", _break(2, 1), ("Bullish CHoCH",)),
    NamedAlert(_PAC, "Bearish I-CHOCH", _break(2, -1), ("Bearish CHoCH",)),
    NamedAlert(_PAC, "Bullish I-CHOCH+", _break(3, 1), ("Bullish CHoCH+",)),
    NamedAlert(_PAC, "Bearish I-CHOCH+", _break(3, -1), ("Bearish CHoCH+",)),
    NamedAlert(_PAC, "Bullish S-BOS", _on("smc_sw_bull_bos")),
    NamedAlert(_PAC, "Bearish S-BOS", _on("smc_sw_bear_bos")),
    NamedAlert(_PAC, "Bullish S-CHOCH", _on("smc_sw_bull_choch")),
    NamedAlert(_PAC, "Bearish S-CHOCH", _on("smc_sw_bear_choch")),
    NamedAlert(_PAC, "Bullish S-CHOCH+", _on("smc_sw_bull_choch")),
    NamedAlert(_PAC, "Bearish S-CHOCH+", _on("smc_sw_bear_choch")),
    NamedAlert(_PAC, "Bullish OB Created", _is("pac_ob_new", 1), ("New Bullish OB", "Bullish OB Formed")),
    NamedAlert(_PAC, "Bearish OB Created", _is("pac_ob_new", -1), ("New Bearish OB", "Bearish OB Formed")),
    NamedAlert(
        _PAC, "Bullish OB Entered", _on("pac_demand_entered"), ("Entered Bullish OB", "Price Entered Bullish OB")
    ),
    NamedAlert(
        _PAC, "Bearish OB Entered", _on("pac_supply_entered"), ("Entered Bearish OB", "Price Entered Bearish OB")
    ),
    NamedAlert(_PAC, "Within Bullish OB", _on("pac_demand_within"), ("Price Within Bullish OB", "Inside Bullish OB")),
    NamedAlert(_PAC, "Within Bearish OB", _on("pac_supply_within"), ("Price Within Bearish OB", "Inside Bearish OB")),
    NamedAlert(_PAC, "Bullish OB Mitigated", _on("pac_demand_mitigated"), ("Mitigated Bullish OB",)),
    NamedAlert(_PAC, "Bearish OB Mitigated", _on("pac_supply_mitigated"), ("Mitigated Bearish OB",)),
    # The block keeps its name when it is broken; which side the vendor means is unknown, both counts are nearly equal.
    NamedAlert(_PAC, "Bullish Breaker", _on("pac_demand_broken"), ("Bullish Breaker Block", "Bullish OB Breaker")),
    NamedAlert(_PAC, "Bearish Breaker", _on("pac_supply_broken"), ("Bearish Breaker Block", "Bearish OB Breaker")),
    NamedAlert(_PAC, "Bullish Liquidity Grab", _on("pac_grab_bull"), ("Bullish Grab",)),
    NamedAlert(_PAC, "Bearish Liquidity Grab", _on("pac_grab_bear"), ("Bearish Grab",)),
    NamedAlert(_PAC, "Equal Highs", _on("pac_eqh"), ("EQH", "Equal High")),
    NamedAlert(_PAC, "Equal Lows", _on("pac_eql"), ("EQL", "Equal Low")),
    NamedAlert(_PAC, "Bullish New Imbalance", _on("pac_fvg_bull"), ("Bullish Imbalance", "Bullish Imbalance Created")),
    NamedAlert(_PAC, "Bearish New Imbalance", _on("pac_fvg_bear"), ("Bearish Imbalance", "Bearish Imbalance Created")),
    NamedAlert(_PAC, "Bullish Imbalance Mitigated", _on("pac_fvg_bull_mitigated"), ("Mitigated Bullish Imbalance",)),
    NamedAlert(_PAC, "Bearish Imbalance Mitigated", _on("pac_fvg_bear_mitigated"), ("Mitigated Bearish Imbalance",)),
    NamedAlert(_PAC, "Broken Downtrendline", _on("pac_line_bull"), ("Downtrendline Broken", "Bullish Trendline Break")),
    NamedAlert(_PAC, "Broken Uptrendline", _on("pac_line_bear"), ("Uptrendline Broken", "Bearish Trendline Break")),
    NamedAlert(_SO, "Bullish Confirmation", _is("so_signal", 1), ("Bullish", "Normal Bullish Confirmation")),
    NamedAlert(_SO, "Bearish Confirmation", _is("so_signal", -1), ("Bearish", "Normal Bearish Confirmation")),
    NamedAlert(
        _SO,
        "Bullish Confirmation+",
        _is("so_signal", 2),
        ("Bullish+", "Bullish+ Confirmation", "Strong Bullish Confirmation", "Confirmation Strong Bullish"),
    ),
    NamedAlert(
        _SO,
        "Bearish Confirmation+",
        _is("so_signal", -2),
        ("Bearish+", "Bearish+ Confirmation", "Strong Bearish Confirmation", "Confirmation Strong Bearish"),
    ),
    NamedAlert(_SO, "Exit Signal", _either("so_exit"), ("Exit", "Bullish Exit", "Bearish Exit", "Confirmation Exit")),
    NamedAlert(_SO, "Trend Catcher Up", _turn("so_catcher_dir", 1), ("Trend Catcher Bullish",)),
    NamedAlert(_SO, "Trend Catcher Down", _turn("so_catcher_dir", -1), ("Trend Catcher Bearish",)),
    NamedAlert(_SO, "Trend Tracer Up", _turn("so_tracer_dir", 1), ("Trend Tracer Bullish",)),
    NamedAlert(_SO, "Trend Tracer Down", _turn("so_tracer_dir", -1), ("Trend Tracer Bearish",)),
    NamedAlert(_SO, "Smart Trail Bullish", _is("so_trail_switch", 1), ("Smart Trail Switch Bullish", "Smart Trail Up")),
    NamedAlert(
        _SO, "Smart Trail Bearish", _is("so_trail_switch", -1), ("Smart Trail Switch Bearish", "Smart Trail Down")
    ),
    NamedAlert(_SO, "Neo Cloud Bullish", _cloud(1), ("Neo Cloud Up",)),
    NamedAlert(_SO, "Neo Cloud Bearish", _cloud(-1), ("Neo Cloud Down",)),
)
BY_NAME: Final = {alert.name: alert for alert in ALERTS}


def _pair(key: str, label: str, *names: str) -> AlertFeature:
    """Return a feature of two sides from name templates with {}: Bullish and Bearish, or Up and Down."""
    words = ("Bullish", "Bearish") if any(name.format("Bullish") in BY_NAME for name in names) else ("Up", "Down")
    return AlertFeature(key, label, tuple(frozenset(name.format(word) for name in names) for word in words))


def _sides(key: str, label: str, *sides: tuple[str, ...]) -> AlertFeature:
    return AlertFeature(key, label, tuple(frozenset(side) for side in sides))


FEATURES: Final = (
    _sides(
        "hyperwave_cross",
        "HyperWave crosses",
        ("HyperWave Signal Up", "HyperWave OS Signal Up"),
        ("HyperWave Signal Down", "HyperWave OB Signal Down"),
    ),
    _sides("hyperwave_big", "big dots", ("HyperWave OS Signal Up",), ("HyperWave OB Signal Down",)),
    _pair("reversal_minor", "minor reversals", "Reversal {}"),
    _pair("reversal_major", "major reversals", "Reversal {} +"),
    _pair("divergence", "divergences", "{} Divergence"),
    _pair("internal_break", "internal breaks", "{} I-BOS", "{} I-CHOCH", "{} I-CHOCH+"),
    _pair("internal_bos", "internal BOS", "{} I-BOS"),
    _pair("internal_choch", "internal CHoCH, plain", "{} I-CHOCH"),
    _pair("internal_choch_plus", "internal CHoCH+", "{} I-CHOCH+"),
    _pair("swing_bos", "swing BOS", "{} S-BOS"),
    _pair("swing_choch", "swing CHoCH, plain and +", "{} S-CHOCH", "{} S-CHOCH+"),
    _pair("block_created", "blocks created", "{} OB Created"),
    _pair("block_entered", "blocks entered", "{} OB Entered"),
    _pair("block_within", "within a block", "Within {} OB"),
    _pair("block_mitigated", "blocks mitigated", "{} OB Mitigated"),
    _pair("breaker", "breakers", "{} Breaker"),
    _pair("grab", "liquidity grabs", "{} Liquidity Grab"),
    _sides("equal", "equal highs and lows", ("Equal Highs",), ("Equal Lows",)),
    _pair("imbalance_new", "new imbalances", "{} New Imbalance"),
    _pair("imbalance_mitigated", "imbalances mitigated", "{} Imbalance Mitigated"),
    _sides("trend_line_break", "trend-line breaks", ("Broken Downtrendline",), ("Broken Uptrendline",)),
    _pair("confirmation", "confirmations", "{} Confirmation", "{} Confirmation+"),
    _pair("confirmation_strong", "strong confirmations", "{} Confirmation+"),
    _sides("exit", "exits", ("Exit Signal",)),
    _pair("trend_catcher", "Trend Catcher", "Trend Catcher {}"),
    _pair("trend_tracer", "Trend Tracer", "Trend Tracer {}"),
    _pair("smart_trail", "Smart Trail switches", "Smart Trail {}"),
    _pair("neo_cloud", "Neo Cloud", "Neo Cloud {}"),
)
BY_KEY: Final = {feature.key: feature for feature in FEATURES}

# Ratios that need no span: numerator, denominator, label.
RATIOS: Final = (
    ("hyperwave_big", "hyperwave_cross", "big dots per cross"),
    ("reversal_major", "reversal_minor", "major per minor reversal"),
    ("internal_choch_plus", "internal_break", "CHoCH+ share of internal breaks"),
    ("internal_bos", "internal_break", "BOS share of internal breaks"),
    ("block_created", "internal_break", "blocks created per internal break"),
    ("block_entered", "block_created", "blocks entered per block created"),
    ("block_within", "block_entered", "bars within per block entered"),
    ("block_mitigated", "block_created", "blocks mitigated per block created"),
    ("breaker", "block_created", "breakers per block created"),
    ("imbalance_mitigated", "imbalance_new", "imbalances mitigated per new one"),
    ("confirmation_strong", "confirmation", "strong share of confirmations"),
    ("exit", "confirmation", "exits per confirmation"),
)


# ---- names ----------------------------------------------------------------------------------------------------------

_REWRITTEN: Final = (
    (r"lux ?algo|®|™|any alert\(\) function call|\balert\b", " "),
    (r"\s*\(\s*\+\s*\)|\s+\+(?=\s|$)", "+"),
    (r"\s*\(\s*-\s*\)|\s+-(?=\s|$)", " "),
    (r"hyper[ -]?wave( oscillator)?|\bhwo\b", "hyperwave"),
    (r"over ?sold", "os"),
    (r"over ?bought", "ob"),
    (r"order ?blocks?", "ob"),
    (r"fair value gaps?|\bfvg\b", "imbalance"),
    (r"change of character", "choch"),
    (r"break of structure", "bos"),
    (r"\binternal (?=.*\b(bos|choch))", "i-"),
    (r"\bswing (?=.*\b(bos|choch))", "s-"),
    (r"([is])- *(bullish|bearish) (bos|choch)", r"\2 \1-\3"),
    (r"trend[ -]?line", "trendline"),
    (r"(up|down)[ -]trend", r"\1trend"),
)
_SIDE_WORDS: Final = frozenset({"bullish", "bearish", "up", "down"})


def _tokens(name: str) -> tuple[str, ...]:
    """Return the words of a name in normalised spelling, sorted.

    >>> _tokens("LuxAlgo: Internal Bullish Change of Character +"), _tokens("HyperWave OB Signal Down")
    (('bullish', 'i-choch+'), ('down', 'hyperwave', 'ob', 'signal'))
    """
    text = name.lower().replace("_", " ")
    for pattern, word in _REWRITTEN:
        text = re.sub(pattern, word, text)
    return tuple(sorted(word for word in re.split(r"[\s:;,.!|\[\]]+", text) if word not in ("", "-")))


@cache
def _spellings() -> dict[tuple[str, ...], Leaves]:
    found: dict[tuple[str, ...], Leaves] = {}
    for alert in ALERTS:
        for name in (alert.name, *alert.others):
            found.setdefault(_tokens(name), frozenset({alert.name}))
    for word in ("Bullish", "Bearish"):
        found[_tokens(f"Any {word} Confirmation")] = frozenset({f"{word} Confirmation", f"{word} Confirmation+"})
    return found


@cache
def _both_sides() -> dict[tuple[str, ...], Leaves]:
    """Return the names of counts that sum both sides, with their alerts."""
    found: dict[tuple[str, ...], Leaves] = {}
    for alert in ALERTS:
        bare = tuple(word for word in _tokens(alert.name) if word not in _SIDE_WORDS)
        found[bare] = found.get(bare, frozenset()) | {alert.name}
    found[_tokens("HyperWave OB/OS")] = BY_KEY["hyperwave_big"].leaves
    found[_tokens("Reversal Major")] = BY_KEY["reversal_major"].leaves
    found[_tokens("Any Confirmation")] = BY_KEY["confirmation"].leaves
    found[_tokens("Imbalance")] = BY_KEY["imbalance_new"].leaves | BY_KEY["imbalance_mitigated"].leaves
    return found


def resolve(name: str) -> Leaves | None:
    """Return the alerts of the table that a fired alert's name stands for, None if unknown.

    It is one alert, or the two of "Any ... Confirmation".

    >>> sorted(resolve("Oversold HWO Up")), resolve("Moon phase")
    (['HyperWave OS Signal Up'], None)
    >>> sorted(resolve("Any Bullish Confirmation"))
    ['Bullish Confirmation', 'Bullish Confirmation+']
    """
    return _spellings().get(_tokens(name))


def resolve_count(name: str) -> Leaves | None:
    """Return the alerts that a counted name sums: as `resolve`, or those of both sides ("OB Created (both)").

    >>> sorted(resolve_count("OB Created (both)")), sorted(resolve_count("Reversal (minor, both)"))
    (['Bearish OB Created', 'Bullish OB Created'], ['Reversal Down', 'Reversal Up'])
    """
    found = resolve(name)
    if found is not None:
        return found
    bare = re.sub(r"\([^+)][^)]*\)", "", name)
    return _both_sides().get(_tokens(bare))


def nearest(name: str) -> str | None:
    """Return the name in the table most similar to an unknown one, None if none is similar.

    >>> nearest("HyperWave Signl Up")
    'HyperWave Signal Up'
    """
    known = {other.lower(): alert.name for alert in reversed(ALERTS) for other in (*alert.others, alert.name)}
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.8)
    return known[near[0]] if near else None


def document() -> list[str]:
    """Return the rows of the table in `docs/alerts.md`."""
    lines = ["| toolkit | alert | also | what of ours stands for it |", "|---|---|---|---|"]
    for alert in ALERTS:
        reading = alert.reading.words if alert.read is not None and alert.reading is not None else "not computed"
        lines.append(f"| {alert.toolkit} | {alert.name} | {', '.join(alert.others) or '-'} | {reading} |")
    return lines
