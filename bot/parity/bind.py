"""Bind each column of an export to one of our features: by name, by position, by its numbers, or by hand.

Names of the toolkits are known. Where a name occurs several times, the position decides. A column without a known name
is tested against public formulas, and bound when all its numbers match. The others are listed as unbound and can be
bound by hand in a small TOML file, which is remembered for every export with the same header:

    [bind]
    "Plot#2" = "om_signal"          # second column called Plot
    "My wave" = "wavetrend(9,12)"
    "Noise" = "ignore"
    [alerts]
    "My long alert" = "long_signal"
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.core.errors import ConfigError
from bot.core.files import private_folder, write_private
from bot.core.klines import Klines
from bot.market.paths import data_folder
from bot.parity import formulas
from bot.parity.catalogue import KNOWN, NOT_OURS, Feature, Kind, feature, names
from bot.parity.csv_values import key
from bot.parity.exports import ChartData, Column
from bot.parity.ours import Ours

FITS: Final = 1e-6  # relative distance up to which numbers match a formula
IGNORE: Final = "ignore"


@dataclass(frozen=True, slots=True)
class Binding:
    """A column and the feature or formula it is compared with; `how` states why."""

    column: Column
    feature: str
    kind: Kind
    family: str
    how: str
    needs_volume: bool = False


@dataclass(slots=True)
class Bound:
    """All columns of an export, each bound, constant, or unbound with a reason."""

    bindings: list[Binding] = field(default_factory=list)
    constants: list[tuple[str, float]] = field(default_factory=list)
    unbound: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BindFile:
    """The content of a bind file: columns by label and alerts by name."""

    columns: dict[str, str]
    alerts: dict[str, str]
    origin: str


def _names_text(text: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(text, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _table(path: Path, values: dict[str, Any], name: str) -> dict[str, str]:
    table = values.get(name, {})
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise ConfigError(f'{path}: [{name}] must hold lines such as "Plot#2" = "om_signal"')
    return dict(table)


def read_bind(path: Path, origin: str) -> BindFile:
    """Read a bind file.

    Raises
    ------
    ConfigError
        It cannot be read, is not valid TOML, or has unknown or malformed tables (one sentence).
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the bind file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the bind file {path} is not valid TOML: {error}") from None
    if unknown := set(values) - {"bind", "alerts"}:
        raise ConfigError(f"{path}: {sorted(unknown)[0]!r} is not known; a bind file has [bind] and [alerts]")
    return BindFile(_table(path, values, "bind"), _table(path, values, "alerts"), origin)


def remembered_path(fingerprint: str) -> Path:
    """Return the path at which the bind file of a header is stored."""
    return data_folder() / "binds" / f"{fingerprint}.toml"


def remember(fingerprint: str, bind: BindFile, header: list[str]) -> Path:
    """Store a bind file atomically for the next export with the same header; return its path."""
    path = remembered_path(fingerprint)
    private_folder(path.parent)
    quote = json.dumps  # a JSON string is a TOML string
    lines = [f"# header: {', '.join(header)}".replace("\n", " ")]
    for name, table in (("bind", bind.columns), ("alerts", bind.alerts)):
        lines += [f"[{name}]", *(f"{quote(k, ensure_ascii=False)} = {quote(v)}" for k, v in table.items())]
    write_private(path, ("\n".join(lines) + "\n").encode())
    return path


def load_bind(given: Path | None, fingerprint: str, header: list[str]) -> BindFile:
    """Return the given bind file, else the remembered one, else an empty one."""
    if given is not None:
        return read_bind(given, "bind file")
    path = remembered_path(fingerprint)
    return read_bind(path, "remembered bind file") if path.is_file() else BindFile({}, {}, "")


def resolve(name: str, column: Column, how: str) -> Binding:
    """Return the binding of a column to a feature or formula.

    Raises
    ------
    ConfigError
        The name is unknown; the message suggests a similar one.
    """
    found = feature(name)
    if found is not None:
        return Binding(column, found.name, found.kind, found.family, how, found.needs_volume)
    if "(" in name:
        formulas.compute(name, _tiny())
        return Binding(column, name.replace(" ", ""), "plot", "public formula", how, "volume" in name)
    raise ConfigError(f"bind: {name!r} is no feature{_names_text(name, names())} (a column of `signals`, or a formula)")


def _tiny() -> Klines:
    from bot.core.klines import make_klines

    column = np.ones(2)
    given = {"open_ms": np.array([0, 60_000]), "open": column, "high": column, "low": column, "close": column}
    return make_klines("X", 60_000, columns=given | {"volume": column})


def constant(values: np.ndarray) -> float | None:
    """Return the value of a column that has the same one on every bar, else None."""
    if np.isnan(values).any() or not len(values):
        return None
    return float(values[0]) if (values == values[0]).all() else None


class Recogniser:
    """Test columns against public formulas; each formula is computed once."""

    def __init__(self, bars: Klines, rows: np.ndarray, *, has_volume: bool) -> None:
        self._bars, self._rows = bars, rows
        self._has_volume = has_volume
        self._known: dict[str, np.ndarray] = {}

    def find(self, values: np.ndarray) -> str | None:
        """Return the formula that reproduces a column's numbers over its last third, or None."""
        tail = slice(len(values) - max(50, len(values) // 3), None)
        wanted = values[tail]
        if len(values) < 150 or np.isnan(wanted).mean() > 0.02 or np.nanstd(wanted) == 0.0:
            return None
        scale = max(float(np.nanmedian(np.abs(wanted))), 1e-9)
        for text in formulas.common():
            if "volume" in text and not self._has_volume:
                continue
            if text not in self._known:
                found = formulas.compute(text, self._bars)
                self._known[text] = (
                    np.where(self._rows >= 0, found[self._rows], np.nan) if found is not None else values
                )
            distance = np.abs(self._known[text][tail] - wanted)
            if np.isfinite(distance).mean() > 0.95 and float(np.nanmax(distance)) <= FITS * scale:
                return text
        return None


def bind(data: ChartData, ours: Ours, by_hand: BindFile) -> Bound:
    """Bind the columns of chart data (see the module docstring).

    Raises
    ------
    ConfigError
        The bind file names a column that does not exist, or an unknown feature.
    """
    labels = {c.label for c in data.columns} | {c.name for c in data.columns}
    for name in by_hand.columns:
        if name not in labels:
            raise ConfigError(f"bind: the export has no column {name!r}{_names_text(name, tuple(labels))}")
    bound = Bound()
    recogniser = Recogniser(ours.filled_bars, ours.rows, has_volume=data.volume is not None)
    for column in data.columns:
        _bind_one(column, bound, by_hand, recogniser)
    return bound


def _bind_one(column: Column, bound: Bound, by_hand: BindFile, recogniser: Recogniser) -> None:
    wanted = by_hand.columns.get(column.label, by_hand.columns.get(column.name) if not column.repeated else None)
    if wanted is not None:
        if wanted == IGNORE:
            bound.unbound.append((column.label, "ignored by the bind file"))
        else:
            bound.bindings.append(resolve(wanted, column, by_hand.origin))
        return
    word = key(column.name)
    if not np.isfinite(column.values).any() and word not in KNOWN:
        bound.unbound.append((column.label, "empty"))
    elif word in KNOWN:
        features = KNOWN[word]
        if column.number > len(features):
            bound.unbound.append((column.label, "another column of a name that is already bound; bind it by hand"))
        else:
            how = "position" if column.repeated else "name"
            bound.bindings.append(resolve(features[column.number - 1], column, how))
    elif feature(column.name) is not None and column.number == 1:
        bound.bindings.append(resolve(column.name, column, "name"))
    elif (value := constant(column.values)) is not None:
        bound.constants.append((column.label, value))
    elif word in NOT_OURS:
        bound.unbound.append((column.label, "of a known toolkit, but not re-created by this bot"))
    elif (formula := recogniser.find(column.values)) is not None:
        bound.bindings.append(resolve(formula, column, "numbers"))
    else:
        bound.unbound.append((column.label, "not known"))


class _Asked(Mapping[str, np.ndarray]):
    """A table that records which columns were requested."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        self.names.add(name)
        return np.zeros(1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def columns_of(bindings: Iterable[Binding]) -> frozenset[str]:
    """Return the columns of `signals` that the bindings read."""
    asked = _Asked()
    for binding in bindings:
        if (found := feature(binding.feature)) is not None:
            found.read(asked)
    return frozenset(asked.names)


def values_of(binding: Binding, ours: Ours, table: Any = None) -> np.ndarray:
    """Return our values for a binding at the export's bars, from `table` if given.

    Raises
    ------
    ConfigError
        The binding names neither a feature nor a formula.
    """
    found: Feature | None = feature(binding.feature)
    if found is not None:
        return found.read(ours.table if table is None else table)
    series = formulas.compute(binding.feature, ours.filled_bars)
    if series is None:
        raise ConfigError(f"bind: {binding.feature!r} is no formula")
    return ours.series(series)
