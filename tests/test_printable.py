"""Control characters of foreign text never reach a terminal, whichever door the text takes."""

import ast
import io
import json
import os
import pty
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.table import Table
from rich.text import Text

from bot.app.setup import STANDARD_ERROR
from bot.cli import main
from bot.core.printable import visible, visible_json
from bot.report.consoles import console
from bot.report.progress import say
from tests.conftest import ROOT

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\x7f\u202e\u2066\r"
SHOWN = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\x08\\x7f\\u202e\\u2066\\x0d"


def obeyed(text: str) -> list[str]:
    """Return what in a text a terminal would obey, line ends and tabs apart."""
    return [c for c in text if visible(c) != c]


def test_everything_a_terminal_obeys_becomes_an_escape_and_the_rest_stays():
    assert visible(EVIL) == SHOWN
    assert visible("plain ± ▲ 数\n\tx") == "plain ± ▲ 数\n\tx"
    assert visible("name\udcff") == "name\\xff"
    assert visible(visible(EVIL)) == visible(EVIL)
    for n in (*range(0x20), *range(0x7F, 0xA0)):
        assert (visible(chr(n)) == chr(n)) is (chr(n) in "\n\t")


def test_json_stays_json():
    text = json.dumps({"a": EVIL})

    assert json.loads(visible_json(text)) == {"a": EVIL}
    assert obeyed(visible_json(text)) == []


def test_a_console_shows_its_own_colours_and_no_others():
    out = io.StringIO()
    shown = console(file=out, width=120, force_terminal=True)
    table = Table(f"head {EVIL}", "text")
    table.add_row(EVIL, Text(EVIL))

    shown.print(table)
    shown.print(f"[bold]{EVIL}[/]")

    text = out.getvalue()
    assert "\x1b[1m" in text
    assert set(obeyed(text)) == {"\x1b"}
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert SHOWN in text


def test_progress_logs_and_errors_pass_the_same_door(capsys):
    say(f"a {EVIL}")
    STANDARD_ERROR.write(f"b {EVIL}\n")
    with pytest.raises(SystemExit):
        main(["signals", "--klines", f"/nowhere{EVIL}", "--out", "x.csv"])

    err = capsys.readouterr().err
    assert obeyed(err) == []
    assert err.count(SHOWN) >= 3


def hostile_export(folder):
    """Write an export of three days of bars whose columns and name hold control characters."""
    rng = np.random.default_rng(5)
    close = 20_000 + rng.normal(0, 20, 1_500).cumsum()
    opened = np.r_[close[0], close[:-1]]
    table = pd.DataFrame(
        {
            "time": 1_672_531_200 + np.arange(1_500) * 180,
            "open": opened,
            "high": np.maximum(opened, close) + 5,
            "low": np.minimum(opened, close) - 5,
            "close": close,
            f"Plot {EVIL[:-1]}": close,
            f"Money Flow{EVIL[:-1]}": rng.uniform(0, 100, 1_500),
        }
    )
    path = folder / "BINANCE_BTCUSDT.P, 3\x1b[31m.csv"
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("words", [["compare"], ["compare", "--json"]])
def test_an_export_whose_columns_hold_escape_sequences_is_shown_without_obeying_them(tmp_path, words):
    export = hostile_export(tmp_path)
    environment = {**os.environ, "BOT_DATA": str(tmp_path / "data"), "TERM": "xterm-256color", "COLUMNS": "200"}
    reader, writer = pty.openpty()

    bot = subprocess.Popen(
        [sys.executable, "-m", "bot", *words, str(export)],
        cwd=ROOT, env=environment, stdout=writer, stderr=writer, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    seen = b""
    while True:
        try:
            chunk = os.read(reader, 65_536)
        except OSError:  # the other end of the terminal is closed
            break
        if not chunk:
            break
        seen += chunk
    code = bot.wait(30)
    os.close(reader)

    text = seen.decode().replace("\r\n", "\n")
    assert code == 0, text
    assert "owned" in text
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert set(obeyed(text)) <= {"\x1b", "\r"}  # rich's own colours and the progress bar
    assert "\x1b[31m.csv" not in text


DOORS = {"bot/cli/base.py", "bot/report/consoles.py", "bot/report/progress.py"}


def test_nothing_prints_past_the_doors():
    """Printing functions stand in the doors; elsewhere a `print` shows text that `visible` has seen."""
    found = []
    for path in (ROOT / "bot").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and name not in DOORS:
                called = ast.unparse(node.func)
                inner = ast.unparse(node.args[0]) if node.args else ""
                safe = inner.startswith(("visible(", "visible_json("))
                if called in ("click.echo", "click.secho", "Console") or (called == "print" and not safe):
                    found.append(f"{name}:{node.lineno} {called}({inner[:40]})")

    assert found == []
