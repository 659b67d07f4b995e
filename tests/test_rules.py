"""The rules stand once: with one constant changed, every consumer changes with it."""

import json
import os
import re
import subprocess
import sys

import pytest

from bot.strategy import rules
from tests.conftest import ROOT

# A row per consumer, in plain Python (no machine code), with one constant of the rules changed before anything runs.
CHILD = """
import json, math, sys
import numpy as np
from bot.config import Config, TradeSettings
from bot.core.jit import record, records
from bot.core.types import Side
from bot.backtest import quiet_bars as bt_quiet
from bot.backtest.data import LIGHT
from bot.parity.conditions import Theirs
from bot.report.view import view
from bot.strategy import kernel as k
from bot.strategy import rules
from bot.strategy.features import INDEX

name, value = sys.argv[1], json.loads(sys.argv[2])
if name:
    setattr(rules, name, value)

ROW = {
    "htf_smc_trend": 1.0, "htf_pac_trend": 1.0, "long_ob_id": 3.0, "om_cross_up": 1.0, "om_hyperwave": 47.0, "om_signal": 46.0,
    "om_ready": 1.0, "so_state": 1.0, "so_rating": 4.0, "so_age": 2.0, "so_trail": 90.0, "so_trail_dir": 1.0, "ready": 1.0,
    "long_ob_taker": 55.0, "long_ob_taker_threshold": 80.0, "range_eq": 110.0,
}
row = np.zeros(len(k.COLUMNS))
row[[INDEX["long_ob_id"], INDEX["short_ob_id"]]] = math.nan
for column, number in ROW.items():
    row[INDEX[column]] = number
settings = records(rules.RULES, 1)
rules.set_rules(settings[0], Config(), base_ms=180_000, htf_ms=900_000)
close, filled = np.array([100.0]), np.zeros(1, np.int64)
live, again = row.copy(), row.copy()
k.flags_step(settings[0], 100.0, 0, live)  # what live trading and history step
k.flags_block(settings, close, filled, again[None, :])  # what the search and the comparison with charts call
found = {
    "live": [live[INDEX["long_hw_cross"]], live[INDEX["long_signal"]], live[INDEX["long_gates"]]],
    "search": [again[INDEX["long_hw_cross"]], again[INDEX["long_signal"]], again[INDEX["long_gates"]]],
}

bound = type("Bound", (), {"bindings": []})()
table = {c: np.array([row[INDEX[c]]]) for c in k.COLUMNS}
theirs = Theirs(bound, table, close, Config())
theirs.columns = {"om_cross_up": np.array([1.0]), "om_cross_down": np.array([0.0]), "om_hyperwave": np.array([47.0])}
theirs.replaced = theirs._replaced()
theirs.restated = theirs._restated()
found["chart"] = bool(theirs.condition(Side.LONG, "hw_cross")[0])
told = view({"decision": {"long": {"hw_cross": False}, "values": ROW}})
found["words"] = told["sides"]["long"]["lights"][2]["number"]

exits = {"pac_event": 2.0, "pac_dir": -1.0, "smc_int_bull_choch": 0.0, "smc_int_bear_choch": 0.0, "sta_ts": 90.0, "sta_os": 1.0}
found["exit"] = rules.exit_reason(exits, Side.LONG, TradeSettings(), held=True, with_trend=True, trailing=False)
light = np.array([[exits.get(c, math.nan) for c in LIGHT]])
found["quiet"] = int(bt_quiet.unspoken(light, close, np.zeros(1), 0, 1, 1, 1, 0, 0.0, rules.choch_source(TradeSettings())))

window = record(k.WINDOW)
k.window_reset(window)
for _ in range(50):
    k.window_step(window, 110.0, 90.0, 50)
found["range"] = k.range_middle(window, k.fresh_row())
print(json.dumps(found))
"""


def _consumers(name: str = "", value: object = 0) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, json.dumps(value)],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def unchanged():
    return _consumers()


def test_the_row_signals_with_the_constants_as_they_are(unchanged):
    assert unchanged["live"][:2] == [1.0, 1.0]
    assert unchanged["live"] == unchanged["search"]
    assert unchanged["chart"] is True
    assert (unchanged["exit"], unchanged["quiet"], unchanged["range"]) == ("choch", 0, 100.0)


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        ("HALF_LINE", 45.0, {"live", "search", "chart", "words"}),
        ("TAKER_MAJORITY", 60.0, {"live", "search"}),
        ("CHOCH", 3.0, {"exit", "quiet"}),
        ("RANGE_BARS", 51, {"range"}),
    ],
)
def test_every_consumer_follows_a_changed_constant(unchanged, name, value, changes):
    found = _consumers(name, value)

    assert {key for key in found if found[key] != unchanged[key] and found[key] == found[key]} | (
        {"range"} if found["range"] != found["range"] else set()
    ) == changes
    if name == "HALF_LINE":
        assert "45" in found["words"]


def test_no_other_module_restates_a_number_of_the_rules():
    """The half line, the trigger of a CHoCH and the gates' bits stand in `strategy/rules.py` alone."""
    restated = re.compile(
        r"\b50(\.0)? - (wave|row\[_HW\])|pac_event\"?\]? *>=|>= *2\.0\b|1 << i for i, name in enumerate"
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "bot").rglob("*.py"))
        if path.name != "rules.py" and path.parent.name not in ("structure", "indicators")
        for line in path.read_text(encoding="utf-8").splitlines()
        if restated.search(line)
    ]

    assert found == []


def test_names_labels_and_gates_are_complete():
    assert list(rules.LABELS) == list(rules.CONDITIONS)
    assert rules.PAIRED[2:4] == ("HW_CROSS_UP, HW_CROSS_DOWN · HyperWave cross", "NO_OVERFLOW · no overflow")
    assert all(len(names) == len(rules.CONDITIONS) for names in rules.NAMES.values())
    assert [rules.GATES[gate] for gate in rules.Gate] == [gate.name.lower() for gate in rules.Gate]
