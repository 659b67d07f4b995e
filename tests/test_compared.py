"""The last comparison with the person's chart stays in view: kept by `compare`, shown by the page and by `status`."""

import asyncio
import json

import pytest

from bot.cli import main
from bot.config import parse
from bot.journal import Journal
from bot.report import operator
from bot.report.compared import NOTHING, Compared, keep, percent, sentence, told
from bot.report.dashboard import Dashboard
from bot.report.hub import Hub
from bot.report.ledger import FOLDER, RepaintLedger, left
from bot.report.view import view
from tests.parity_exports import OSCILLATOR, OVERLAYS, chart, market

CONFIG = parse("")
BARS = market().part(0, 1500)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def report(kind="chart data", **more):
    export = {"kind": kind, "file": "BINANCE_BTCUSDT.P, 3.csv", "from_ms": 0, "to_ms": 1}
    return {"export": export, "headline": "18 of 30 bound columns agree", "verdict": ["words"], **more}


def compared_with(capsys, path):
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(path)])
    capsys.readouterr()
    assert (ended.value.code or 0) == 0


def test_compare_keeps_what_it_found_and_a_newer_export_of_the_kind_replaces_it(data, tmp_path, capsys):
    exported = OSCILLATOR | OVERLAYS
    compared_with(capsys, chart(BARS, exported).write(tmp_path / "same.csv"))
    (same,) = Compared(data).rows()
    other = chart(BARS, exported, changes={"oscillator.hyperwave_length": 14}).write(tmp_path / "other.csv")
    compared_with(capsys, other)
    (found,) = Compared(data).rows()

    assert same["sentence"].startswith("100 %: 30 of 30 bound columns")
    assert set(same["conditions"]["long"]) == {"HW_CROSS_UP", "NO_OVERFLOW", "BUY_CONF", "TRAIL_BULL"}
    assert set(same["conditions"]["long"].values()) == {1.0}
    assert {"HTF_BULL", "OB_DEMAND_HIT"} <= set(same["borrowed"])
    assert found["file"] == "other.csv"
    assert "the chart uses oscillator.hyperwave_length = 14, this bot 7" in found["sentence"]
    assert found["conditions"]["long"]["HW_CROSS_UP"] < 1.0 == found["conditions"]["long"]["TRAIL_BULL"]
    assert sorted(path.name for path in (data / "parity").iterdir()) == ["chart_data.json"]


def test_each_kind_of_export_keeps_its_own_newest_first_and_is_read_again_when_it_changes(tmp_path):
    compared = Compared(tmp_path)
    before = compared.rows()
    trades = {"matched": 6, "matched_within_1": 1, "only_theirs": 2, "only_ours": 3}
    keep(tmp_path, report(), at_ms=1_700_000_000_000)
    keep(tmp_path, report("list of trades", trades=trades), at_ms=1_700_086_400_000)

    rows = compared.rows()

    assert before == []
    assert [(row["kind"], row["signal"]) for row in rows] == [("list of trades", 0.5), ("chart data", None)]
    assert compared.rows() is rows
    assert sentence(rows[0]) == (
        "list of trades BINANCE_BTCUSDT.P, 3.csv (2023-11-15): 18 of 30 bound columns agree; signal 50.0 %"
    )


def test_the_whole_signal_is_judged_on_its_marks_and_not_on_the_bars_without_one(tmp_path):
    score = {"ours": 3, "theirs": 2, "only_ours": 2, "only_theirs": 1, "agree": 0.9996, "bars": 4000}

    keep(tmp_path, report(conditions={"long": {"signal": score}}), at_ms=1)

    assert Compared(tmp_path).rows()[0]["signal"] == 0.25  # one mark in both, of four


def test_alerts_count_as_signals_by_what_matched_at_the_close(tmp_path):
    row = {"alerts": 5, "not_covered": 1, "matched": 3, "missing": 1}

    keep(tmp_path, report("alerts log", alerts={"long_signal": row, "om_cross_up": row}), at_ms=1)

    assert Compared(tmp_path).rows()[0]["signal"] == 0.6


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"version": 99}', b'{"version": 1, "kind": 5}'])
def test_a_file_that_cannot_be_read_is_told_and_hides_nothing_else(tmp_path, content):
    keep(tmp_path, report("alerts log"), at_ms=5)
    keep(tmp_path, report(), at_ms=9).write_bytes(content)

    rows = Compared(tmp_path).rows()

    assert [row["kind"] for row in rows] == ["alerts log", "chart data"]
    assert "cannot be read: compare the export again" in sentence(rows[1])
    assert view({"compared": rows})["compared"][1]["day"] == ""


def test_what_is_not_all_is_never_a_hundred_per_cent():
    shares = [percent(share) for share in (1.0, 1.0 - 1e-9, 0.9994, 0.0)]

    assert shares == ["100 %", "99.9 %", "99.9 %", "0.0 %"]
    assert told([]) == [NOTHING]


async def test_page_and_status_show_it_and_say_how_to_begin_before_there_is_one(data, capsys):
    compared = Compared(data)
    dashboard = Dashboard(
        Hub(),
        host="127.0.0.1",
        port=0,
        token="the-token",
        snapshot=lambda: {
            "venue": "sim",
            "compared": compared.rows(),
            "ledger": {"text": "0 of 9 closed bars rewritten"},
        },
        trades=list,
        command=lambda name, args: None,
    )
    port = await dashboard.start()
    operator.write_run_file(data, port=port, venue="sim", token="the-token")

    await asyncio.to_thread(operator.print_status, CONFIG, as_json=False)
    before = " ".join(capsys.readouterr().out.split())
    keep(data, report(conditions={"long": {"TRAIL_BULL": {"agree": 0.5, "bars": 9}}}), at_ms=1_700_000_000_000)
    dashboard._hub.publish("anything")
    await asyncio.to_thread(operator.print_status, CONFIG, as_json=False)
    after = " ".join(capsys.readouterr().out.split())
    await asyncio.to_thread(operator.print_status, CONFIG, as_json=True)
    seen = json.loads(capsys.readouterr().out)
    await dashboard.close()

    assert NOTHING in before
    assert "repaint 0 of 9 closed bars rewritten" in before
    assert "SIMULATION" in before
    assert "(2023-11-14): 18 of 30 bound columns agree; long TRAIL_BULL · Smart Trail 50.0 %" in after
    assert seen["compared"][0]["conditions"] == {"long": [["TRAIL_BULL · Smart Trail", 0.5, "50.0 %"]]}


def test_after_the_session_status_still_tells_its_ledger_and_the_comparison(data, capsys):
    with Journal(data / "bot.db") as journal:
        session = journal.open_session("sim", "sim", resume=False, at_ms=1).id
    operator.print_status(CONFIG, as_json=False)
    crashed = " ".join(capsys.readouterr().out.split())
    with RepaintLedger(CONFIG, folder=data / FOLDER, session=session):
        pass
    keep(data, report(), at_ms=1_700_000_000_000)

    operator.print_status(CONFIG, as_json=False)
    closed = " ".join(capsys.readouterr().out.split())

    assert "no ledger was closed for this session" in crashed
    assert "0 of 0 closed bars rewritten" in closed
    assert "18 of 30 bound columns agree" in closed
    assert left(data / FOLDER, session)["judged"] == 0
