"""The bot is killed at every journal write and request of a trade, and comes back to one trade, whole books and full protection.

`python -m tests.kill` plays six trades on both sides against an exchange in a process of its own: entry with two hedge legs, both
targets, trail, and the ways out (stop, time, CHoCH, flip, a leg's stop). At each point the bot dies by SIGKILL, stays away
for 0.3, 3 or 45 s of exchange time, is started again, killed and started once more, and the trade is played to its end.
"""

import json
import subprocess
import sys
from decimal import Decimal as D

import pytest

from bot.core.events import AccountSnapshot, Fill
from bot.core.intents import PlaceOrder
from bot.core.types import OrderSide, OrderType
from bot.journal import Journal
from tests.conftest import ROOT

pytestmark = pytest.mark.wire


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    *lines, figures = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [line for line in lines if line["faults"]]
    assert done.returncode == 0, f"{failed} {done.stderr}"
    return lines, figures


def judge(lines, figures, capsys):
    drifted = sum(line["drifted"] for line in lines)
    naked = max(line["naked_ms"] for line in lines)
    with capsys.disabled():
        print(
            f"\nkill matrix: {figures['points']} points, {figures['tried']} tried, {figures['failures']} failures, "
            f"{drifted} drifted, bare for at most {naked} ms after a restart, {figures['seconds']:.0f} s"
        )
    assert figures["tried"] == len(lines) > 0
    assert figures["failures"] == 0
    assert (
        drifted < len(lines) / 2
    )  # a killed run is the same run as the whole one, but for what happens at one instant


def test_a_killed_bot_comes_back_to_whole_books_and_full_protection(capsys):
    lines, figures = run("--share", "0.04", "--seed", "1")

    judge(lines, figures, capsys)


def test_a_bot_that_is_asked_to_stop_leaves_nothing_bare(capsys):
    lines, figures = run("--stop", "--story", "scale", "--share", "0.04")

    judge_left(lines, figures, capsys)


@pytest.mark.nightly
@pytest.mark.timeout(7_200)
def test_at_every_point_of_a_trade_a_bot_that_is_asked_to_stop_leaves_nothing_bare(capsys):
    lines, figures = run("--stop", "--story", "scale")

    judge_left(lines, figures, capsys)
    assert figures["tried"] == figures["points"]


def judge_left(lines, figures, capsys):
    with capsys.disabled():
        print(f"\nstopped at {figures['tried']} of {figures['points']} points, {figures['failures']} failures")
    assert figures["tried"] == len(lines) > 0
    assert figures["failures"] == 0


@pytest.mark.nightly
@pytest.mark.timeout(7_200)
def test_at_every_point_a_killed_bot_comes_back_to_whole_books_and_full_protection(capsys):
    lines, figures = run()

    judge(lines, figures, capsys)
    assert figures["tried"] == figures["points"]


def test_an_order_whose_end_nobody_heard_is_filled_on_record_by_its_fills(tmp_path):
    name = "rbT-xx-0-0000001-01-a1"
    order = PlaceOrder(name, "BTCUSDT", OrderSide.SELL, OrderType.MARKET, D("0.3"), reduce_only=True)
    fills = tuple(
        Fill(20 + n, name, "BTCUSDT", OrderSide.SELL, D(qty), D(price), D("0.01"), False, 100 + n)
        for n, (qty, price) in enumerate([("0.1", "60000"), ("0.2", "60030")])
    )
    with Journal(tmp_path / "bot.db") as journal:
        session = journal.open_session("testnet", "here", resume=True)
        journal.append_outputs(journal.append_event(fills[0]), [order])
        journal.commit()

        journal.append_event(AccountSnapshot(30, D(1_000), (), (), fills))
        journal.commit()

        row = journal._rows("SELECT * FROM orders WHERE session = ?", (session.id,))[0]
    assert (row["status"], D(row["filled_qty"]), D(row["average_price"])) == ("FILLED", D("0.3"), D("60020"))
