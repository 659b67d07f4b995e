"""Compare what the program computes with an earlier version of itself: columns, trades, reports and the figures of pages.

    python -m tests.unchanged record before.json      # on the earlier version
    python -m tests.unchanged compare before.json     # on the later one; exit 1 with a list when anything differs

Everything is taken from the command line's own files, so that a change of modules and names does not matter: each column of
`signals` (three files, both intervals, all profiles), the trades, figures and page of back-tests on spot and perpetual klines, a
Monte-Carlo, a search and a walk through time of a few trials, the comparisons with chart exports and alert streams, a chart, two
explanations, and the report of a week through the embedded exchange. Words may change, numbers may not. Some 15 minutes; `--only`
takes the names of parts.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

from tests.conftest import ROOT

SHARED = ROOT.parent / "shared"


PROFILES = ("alert", "document", "headline", "creator", "before")
# What a clock of this machine measures, or a path, or a version.
VOLATILE = re.compile(
    r"(^|[._])(seconds|elapsed|duration|took|created|written|version|config_hash|path|file|out|storage|study|pid|decision_ms\w*|"
    r"per_second|klines|memory\w*|started|code|machine)($|[._])"
)
SPEED = re.compile(r"[\d,.]+ (bars|trials|runs)( a second|/s)")
NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")


class _Text(HTMLParser):
    """Collects the visible text of a page and its embedded JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.data: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._inside.append("data" if dict(attrs).get("type") == "application/json" else "skip")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style") and self._inside:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text.append(data)
        elif self._inside[-1] == "data":
            self.data.append(data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:20]


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers and truth values of a JSON document by path; words may change."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{at}.{i}")
    elif isinstance(value, int | float) and not VOLATILE.search(at):
        yield at, value


def _of_page(path: Path) -> dict[str, Any]:
    page = _Text()
    page.feed(path.read_text(encoding="utf-8"))
    numbers = Counter(NUMBER.findall(SPEED.sub("", " ".join(page.text))))
    found: dict[str, Any] = {f"number {number}": count for number, count in sorted(numbers.items())}
    for i, data in enumerate(page.data):
        document = sorted((key, repr(value)) for key, value in _flat(json.loads(data)))
        found[f"data {i}"] = _digest(json.dumps(document).encode())
    return found


def _of_table(table: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(table)}
    for name in table.columns:
        column = table[name]
        plain = column.to_numpy().tobytes() if column.dtype.kind in "biufM" else "\0".join(map(str, column)).encode()
        found[f"column {name}"] = _digest(plain)
    return found


def _of_file(path: Path) -> dict[str, Any] | None:
    match path.suffix:
        case ".html":
            return _of_page(path)
        case ".parquet":
            return _of_table(pd.read_parquet(path))
        case ".csv":
            return _of_table(pd.read_csv(path))
        case ".json":
            return dict(_flat(json.loads(path.read_text(encoding="utf-8"))))
    return None


def _bot(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        cwd=ROOT,
        env={**os.environ, "BOT_DATA": str(folder / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"python -m bot {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _commands() -> dict[str, list[list[str]]]:
    """Return the commands of each part; OUT stands for a folder of the command's own."""
    klines = SHARED / "klines"
    files = [
        klines / "um" / "BTCUSDT-3m.parquet",
        klines / "spot" / "BTCUSDT-3m.parquet",
        klines / "um" / "BTCUSDT-15m.parquet",
    ]
    spot, um = str(klines / "spot"), str(klines / "um")
    parts: dict[str, list[list[str]]] = {
        "columns": [
            ["--profile", p, "signals", "--klines", str(file), "--out", "OUT/columns.parquet", "--json"]
            for file in files
            for p in PROFILES
        ],
        "backtest": [
            ["--profile", p, "backtest", "--klines", folder, "--out", "OUT", "--json", "--pool", "200"]
            for folder in (spot, um)
            for p in PROFILES
        ],
        "search": [
            ["optimise", "--klines", spot, "--trials", "12", "--min-trades", "3", "--storage", "sqlite:///OUT/s.db",
             "--pool", "50", "--out", "OUT", "--json"],
            ["walkforward", "--klines", spot, "--slice", "40d", "--train", "80d", "--trials", "6", "--min-trades", "2",
             "--storage", "sqlite:///OUT/s.db", "--out", "OUT", "--json"],
        ],
        "chart": [
            ["chart", "--klines", spot, "--from", "2023-01-09", "--to", "2023-01-11", "--out", "OUT/chart.html"],
            ["explain", "2023-01-10T12:00", "--klines", spot, "--json"],
            ["explain", "2023-01-15T03:30", "--klines", spot, "--json"],
        ],
        "compare": [
            ["compare", str(export), "--klines", spot, "--out", "OUT", "--json"]
            for export in sorted((SHARED / "tradingview").glob("BINANCE*.csv"))
        ]
        + [["compare", str(SHARED / "truth"), "--klines", str(klines / "um-long"), "--out", "OUT", "--json"]],
        "week": [
            ["run", "--venue", "sim", "--klines", spot, "--from", "2023-01-09", "--to", "2023-01-16", "--speed", "max",
             "--once", "--json", "--no-dashboard"],
            ["trades", "--all", "--csv"],
        ],
    }  # fmt: skip
    return parts


def measure(parts: Sequence[str]) -> dict[str, Any]:
    """Return all figures of the named parts, by command and file."""
    found: dict[str, Any] = {}
    for part in parts:
        with tempfile.TemporaryDirectory() as text:
            state = Path(text)
            for i, command in enumerate(_commands()[part]):
                out = state / str(i)
                out.mkdir()
                printed = _bot(state, *(word.replace("OUT", str(out)) for word in command))
                name = " ".join(word.replace(str(SHARED), "").replace("OUT", "") for word in command)
                print(f"{part}: {name}", file=sys.stderr, flush=True)
                if "--json" in command:
                    (out / "printed.json").write_text(printed)
                elif "--csv" in command:
                    (out / "printed.csv").write_text(printed)
                for path in sorted(p for p in out.rglob("*") if p.is_file()):
                    if (figures := _of_file(path)) is not None:
                        found[f"{name}: {path.relative_to(out)}"] = figures
            if part == "backtest":
                trades = state / "0" / "trades.parquet"
                out = state / "monte"
                _bot(state, "montecarlo", str(trades), "--runs", "500", "--out", str(out))
                for path in sorted(out.iterdir()):
                    if (figures := _of_file(path)) is not None:
                        found[f"montecarlo: {path.name}"] = figures
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield one sentence for each figure that differs; a column under another name with the same content is a renaming."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield f"{name}: only {'before' if name in before else 'after'}"
            continue
        old, new = before[name], after[name]
        fresh = {value: key for key, value in new.items() if key not in old}
        for key in sorted(old.keys() | new.keys()):
            if key in old and key not in new and old[key] in fresh and key.startswith("column"):
                print(f"{name}: {key} is {fresh[old[key]]} now", file=sys.stderr)
            elif key in old and old[key] != new.get(key):
                yield f"{name}: {key} was {old[key]!r}, is {new.get(key, 'absent')!r}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Record or compare; return the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="+", choices=tuple(_commands()), help="parts (default: all)")
    asked = parser.parse_args(arguments)
    parts = asked.only or list(_commands())
    found = json.loads(json.dumps(measure(parts)))
    if asked.what == "record":
        asked.file.write_text(json.dumps(found, indent=1, sort_keys=True))
        print(f"{sum(map(len, found.values())):,} figures of {len(found)} files recorded")
        return 0
    before = json.loads(asked.file.read_text())
    if asked.only:
        before = {name: figures for name, figures in before.items() if name in found}
    different = list(differences(before, found))
    print("\n".join(different[:200]))
    print(f"{sum(map(len, found.values())):,} figures of {len(found)} files compared, {len(different)} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
