"""The Pine script: within TradingView's limits, newest first, and in an independent runtime it draws what we found."""

import json
import os
import re
import shutil
import subprocess

import pytest

from bot.app.chart import tape_of
from bot.cli import main
from bot.report.pine import CHUNK, MOST_BOXES, MOST_LABELS, MOST_LINES, MOST_SIGNALS, chunks, pine
from tests.conftest import ROOT
from tests.parity_exports import CONFIG, market, save

BARS = market()
RUNTIME = ROOT / ".venv" / "pinets"
# Runs the script of the first argument on the bars of the second and prints what it drew and plotted last.
RUNNER = """
import { PineTS } from 'pinets';
import { readFileSync } from 'fs';
const candles = JSON.parse(readFileSync(process.argv[3]));
const context = await new PineTS(candles).run(readFileSync(process.argv[2], 'utf8'));
const drawn = (name) => context.plots[name]?.data?.[0]?.value ?? [];
const shares = context.plots['Closes equal, %']?.data ?? [];
console.log(JSON.stringify({
  boxes: drawn('__boxes__'), lines: drawn('__lines__'), labels: drawn('__labels__'), tables: drawn('__tables__'),
  equal: shares.length ? shares[shares.length - 1].value : null, warnings: context.warnings ?? [],
}));
"""


@pytest.fixture(scope="module")
def tape():
    return tape_of(CONFIG, BARS)


@pytest.fixture(scope="module")
def drawn(tape, tmp_path_factory):
    """What the independent runtime draws from the script on the bars' own chart."""
    return run(tmp_path_factory.mktemp("pine"), pine(tape, "3m").text, BARS)


def run(folder, text, bars):
    """Run a script in PineTS, a separate program that `make test` puts beside the environment."""
    node = shutil.which("node")
    if node is None or not (RUNTIME / "node_modules" / "pinets").is_dir():
        reason = "pinets is not installed: `make test` installs it where npm is"
        if os.environ.get("CI") == "true" and shutil.which("npm"):
            pytest.fail(reason)
        pytest.skip(reason)
    columns = (bars.open_ms, bars.open, bars.high, bars.low, bars.close, bars.volume)
    names = ("openTime", "open", "high", "low", "close", "volume")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(c.tolist() for c in columns), strict=True)]
    (folder / "bars.json").write_text(json.dumps([row | {"closeTime": row["openTime"] + 179_999} for row in rows]))
    (folder / "findings.pine").write_text(text)
    runner = RUNTIME / f"runner{os.getpid()}.mjs"
    runner.write_text(RUNNER)
    try:
        done = subprocess.run(
            [node, runner, folder / "findings.pine", folder / "bars.json"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        runner.unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_blocks_stand_at_their_prices_and_bars(drawn, tape):
    opens = tape.open_ms
    found = [box for box in tape.found.boxes[-MOST_BOXES:] if box.end >= 0]
    boxes = {(box["left"], box["right"], box["bottom"], box["top"]) for box in drawn["boxes"]}

    assert len(found) > 50
    assert all((int(opens[b.start]), int(opens[b.end]), b.bottom, b.top) in boxes for b in found)


def test_active_blocks_run_to_the_right_edge_with_their_buying(drawn, tape):
    shown = [box for box in tape.found.boxes if box.state == "shown"]
    open_ended = {(box["bottom"], box["top"]): box for box in drawn["boxes"] if box["extend"] == "r"}

    assert {(b.bottom, b.top) for b in shown} == set(open_ended)
    assert all(open_ended[b.bottom, b.top]["text"] == f"{round(100 * b.buy_share)} % buy" for b in shown)


def test_breaks_are_lines_from_pivot_to_break_with_their_name(drawn, tape):
    opens = tape.open_ms
    breaks = [part for part in tape.found.segments if part.layer == "pac"]
    wanted = breaks[::-1][: len(drawn["lines"])]
    lines = {(line["x1"], line["x2"], line["y1"], line["y2"]) for line in drawn["lines"]}
    words = {(label["x"], label["y"], label["text"]) for label in drawn["labels"]}

    assert len(wanted) > 100
    assert lines == {(int(opens[p.start]), int(opens[p.end]), p.price, p.price) for p in wanted}
    assert all((int(opens[p.end]), p.price, p.label) in words for p in wanted)


def test_signals_are_labels_on_their_bars(drawn, tape):
    marks = {(label["x"], label["text"]) for label in drawn["labels"] if label["text"] in ("LONG", "SHORT")}
    longs = {(int(at), "LONG") for at in tape.open_ms[tape.column("long_signal") == 1.0]}
    shorts = {(int(at), "SHORT") for at in tape.open_ms[tape.column("short_signal") == 1.0]}

    assert longs | shorts
    assert marks == longs | shorts


def test_the_script_says_whether_the_chart_is_of_the_same_market(drawn, tape, tmp_path):
    moved = BARS.part(2000, len(BARS))
    moved.close[-100:] += 1.0  # a view of the cached market: taken back below
    try:
        other = run(tmp_path, pine(tape, "3m").text, moved)
    finally:
        moved.close[-100:] -= 1.0
    told = [table["cells"][0][0]["text"] for table in (drawn["tables"][0], other["tables"][0])]

    assert (drawn["equal"], other["equal"]) == (100.0, 50.0)
    assert told[0] == "BTCUSDT 3m: 200 of 200 closes equal ours"
    assert told[1] == "BTCUSDT 3m: 100 of 200 closes equal ours: another market or feed?"


def test_the_limits_of_a_script_are_kept_and_the_newest_kept(tape):
    found = pine(tape, "3m")

    assert found.blocks <= MOST_BOXES
    assert found.breaks <= MOST_LINES
    assert found.breaks + found.signals <= MOST_LABELS
    assert found.signals <= MOST_SIGNALS
    assert found.left_out == max(0, len(tape.found.boxes) - MOST_BOXES) + max(
        0, sum(p.layer == "pac" for p in tape.found.segments) - found.breaks
    )
    assert all(len(text) <= CHUNK for text in re.findall(r'"([^"]*)"', found.text))
    assert found.text.startswith("//@version=6\n")
    assert "@" not in found.text.removeprefix("//@version=6")


def test_rows_are_cut_into_texts_between_records():
    texts = chunks([(i, 100_000.5, -1) for i in range(1000)])

    assert all(len(text) <= CHUNK for text in texts)
    assert [record for text in texts for record in text.split(";")] == [f"{i},100000.5,-1" for i in range(1000)]
    assert chunks([]) == [""]


def test_the_command_writes_the_script_and_needs_real_klines(tmp_path, capsys, monkeypatch):
    folder = save(tmp_path / "um", BARS)
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "none"))

    codes = []
    for extra in (["--klines", str(folder)], ["--klines", str(folder), "--from", "2030-01-01"], []):
        with pytest.raises(SystemExit) as ended:
            main(["pine", "--out", str(tmp_path / "a.pine"), *extra])
        codes.append(ended.value.code or 0)
    out, err = capsys.readouterr()

    assert codes == [0, 3, 3]
    assert "paste it into the Pine editor" in out
    assert (tmp_path / "a.pine").read_text().startswith("//@version=6\n// Findings BTCUSDT 3m")
    assert err.count("\n") == 2
