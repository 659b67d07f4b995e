"""The timetable: the right jobs at the right hours, research that only proposes, and a sentinel that stops entries."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest

from bot.app.connection import addresses, connected
from bot.app.logfile import DailyFile, forget_old_logs
from bot.app.sentinel import Sentinel, State
from bot.app.setup import library_form
from bot.config import Config, Jobs
from bot.core.intents import Alert
from bot.jobs import Timetable
from bot.search import runs
from bot.search.runs import Research, ResearchStep, changes_of, settings_in, steps_of
from tests.places import place, set_keys

HOUR = timedelta(hours=1)


async def nothing(*_):
    """Do nothing."""


async def test_jobs_run_at_their_hours_in_utc_and_research_only_when_it_is_on():
    off = Timetable(Jobs(), sentinel=nothing, daily=nothing, research=nothing)
    on = Timetable(Jobs(research=True, daily="23:59"), sentinel=nothing, daily=nothing, research=nothing)
    for table in (off, on):
        table.start()
    try:
        now = datetime.now(UTC)
        times = on.next_times()

        assert set(off.next_times()) == {"sentinel", "daily"}
        assert set(times) == {"sentinel", "daily", "weekly", "monthly", "quarterly"}
        assert timedelta(0) < times["sentinel"] - now <= HOUR + timedelta(seconds=5)
        assert (times["daily"].hour, times["daily"].minute) == (23, 59)
        assert times["weekly"].weekday() == 0
        assert times["monthly"].day == 1
        assert (times["quarterly"].day, times["quarterly"].month % 3) == (2, 1)
        assert {t.utcoffset() for t in times.values()} == {timedelta(0)}
    finally:
        off.close()
        on.close()
        await asyncio.sleep(0)


async def test_a_job_that_is_due_runs():
    ran = asyncio.Event()

    async def job():
        ran.set()

    table = Timetable(Jobs.model_construct(**Jobs().model_dump() | {"sentinel_minutes": 1 / 60}), sentinel=job,
                      daily=nothing, research=None)  # fmt: skip
    table.start()
    try:
        await asyncio.wait_for(ran.wait(), 5)
    finally:
        table.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["weekly", "monthly", "quarterly"])
def test_research_begins_with_fresh_klines_and_never_names_a_secret(kind, tmp_path):
    steps = steps_of(kind, Config(), klines=tmp_path, out=tmp_path / "out")

    assert steps[0].name == "download"
    assert len(steps) >= 2
    assert all("arm" not in step.words for step in steps)


async def test_research_runs_processes_without_keys_and_proposes_a_diff(tmp_path, monkeypatch):
    monkeypatch.setenv("BINANCE_API_SECRET", "do-not-tell")
    monkeypatch.setattr(
        runs,
        "steps_of",
        lambda *a, **k: [
            ResearchStep("show", ("show-config", "--json")),
            ResearchStep("walk", ("show-config", "--json")),
        ],
    )
    told = []
    research = Research(Config(), folder=tmp_path, klines=tmp_path, today=lambda: "2026-01-05", tell=told.append)
    result = {"slices": [1, 2], "best": {"value": 1.4, "settings": {"overlays.smart_trail": 4, "pac.show": 5}}}

    await research.run("weekly")
    out = tmp_path / "2026-01-05-weekly"
    (out / "walk.json").write_text(json.dumps(result))
    lines = research._propose(out)

    assert "nothing was applied" in told[0]
    assert json.loads((out / "show.json").read_text())["overlays"]["smart_trail"] == 3
    assert "do-not-tell" not in (out / "show.json").read_text() + (out / "show.log").read_text()
    assert lines == ["- overlays.smart_trail=3", "+ overlays.smart_trail=4"]
    assert (out / "proposed.diff").read_text().splitlines() == ["# walk.json", *lines]


async def test_a_research_step_that_fails_ends_the_run_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        runs, "steps_of", lambda *a, **k: [ResearchStep("wrong", ("no-such-command",)), ResearchStep("x", ("y",))]
    )
    told = []

    await Research(Config(), folder=tmp_path, klines=tmp_path, today=lambda: "2026-01-05", tell=told.append).run(
        "monthly"
    )

    assert told[0].startswith("monthly research stopped: wrong ended with 2")
    assert not (tmp_path / "2026-01-05-monthly" / "x.json").exists()


def test_only_a_table_of_settings_is_taken_for_a_proposal():
    config = Config()

    assert settings_in({"a": {"b": {"pac.show": 4, "nonsense.key": 1}}}, config) == {}
    assert settings_in({"a": [1], "b": {"pac.show": 4}}, config) == {"pac.show": 4}
    assert changes_of(config, {"pac.show": config.pac.show}) == []


def test_settings_that_broke_a_constraint_are_no_proposal():
    kept, broken = {"trade.tp1_r": 1.5}, {"trade.tp1_r": 2.5, "hedge.enabled": False}
    newest_broke = [{"feasible": True, "settings": kept}, {"feasible": False, "settings": broken}]

    assert settings_in({"winner": {"feasible": False, "settings": broken}, "best": [kept]}, Config()) == {}
    assert settings_in({"slices": newest_broke}, Config()) == {}
    assert settings_in({"winner": {"feasible": True, "settings": kept}}, Config()) == kept
    assert settings_in({"slices": newest_broke[::-1]}, Config()) == kept


@pytest.mark.parametrize("feasible", [True, False])
def test_research_never_mixes_the_settings_of_two_results(tmp_path, feasible):
    searched = {"strategy.gates.trend_tracer_up": True, "trade.tp1_r": 2.0}
    walked = {"trade.tp1_r": 1.5, "hedge.enabled": False}
    (tmp_path / "optimise.json").write_text(json.dumps({"winner": {"feasible": True, "settings": searched}}))
    (tmp_path / "walkforward.json").write_text(json.dumps({"slices": [{"feasible": feasible, "settings": walked}]}))

    lines = Research(Config(), folder=tmp_path, klines=tmp_path, today=str, tell=print)._propose(tmp_path)

    assert lines == changes_of(Config(), walked if feasible else searched)
    source = "walkforward" if feasible else "optimise"
    assert (tmp_path / "proposed.diff").read_text().startswith(f"# {source}.json\n")


async def test_a_changed_setting_is_told_as_one_change(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "steps_of", lambda *a, **k: [])
    place = tmp_path / "2026-01-05-weekly"
    place.mkdir()
    (place / "walk.json").write_text(json.dumps({"settings": {"overlays.smart_trail": 4}}))
    told = []

    research = Research(Config(), folder=tmp_path, klines=tmp_path, today=lambda: "2026-01-05", tell=told.append)
    await research.run("weekly")

    assert "proposes 1 change;" in told[0]


# Sentinel --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    set_keys(monkeypatch)


class Watch:
    """A sentinel on an exchange, and what it said and did."""

    def __init__(self, config, line, **state) -> None:
        self.alerts: list[Alert] = []
        self.stopped: list[str] = []
        self.state = {"flat": True, "leverage": 5, "instruments": {}, "feeds_lost": (), "last_bar_ms": 0} | state
        self.sentinel = Sentinel(
            config,
            line,
            state=lambda: State(**self.state),
            alert=self.alerts.append,
            stop_entries=self.stopped.append,
            again_ms=10,
        )


async def ready(line):
    await line.gateway.synchronise()
    session = await line.gateway.load_session(("BTCUSDT", "ETHUSDT", "SOLUSDT"), venue="testnet")
    await line.gateway.prepare(("BTCUSDT", "ETHUSDT", "SOLUSDT"), 5)
    return {i.symbol: i for i in session.instruments}


@pytest.mark.wire
async def test_a_sound_venue_gives_no_alert_and_a_stop_is_tried_while_flat(keyed):
    async with place() as venue, connected("testnet", addresses(venue.config(), "testnet")) as line:
        watch = Watch(venue.config(), line, instruments=await ready(line))
        found = await watch.sentinel.look()
        watch.state["flat"] = False
        again = await watch.sentinel.look()
        algos = venue.exchange.state()["algo_orders"]

    assert {check.status for check in found} == {"ok"}
    assert watch.alerts == watch.stopped == []
    assert [a["algoStatus"] for a in algos] == ["CANCELED"]
    assert any("not tried while a position" in check.text for check in again)


@pytest.mark.wire
@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        ({"leverage": 20}, "5x in place of 20x"),
        ({"feeds_lost": ("market",)}, "market not delivering"),
        ({"instruments": "changed"}, "changed the filters of BTCUSDT"),
    ],
)
async def test_what_fails_twice_raises_an_alert_and_stops_entries(keyed, breaks, words):
    async with place() as venue, connected("testnet", addresses(venue.config(), "testnet")) as line:
        known = await ready(line)
        if breaks.get("instruments") == "changed":
            import dataclasses

            tick = known["BTCUSDT"].tick * 10
            breaks = {"instruments": known | {"BTCUSDT": dataclasses.replace(known["BTCUSDT"], tick=tick)}}
        watch = Watch(venue.config(), line, **({"instruments": known} | breaks))
        await watch.sentinel.look()

    assert [alert.level for alert in watch.alerts] == ["critical"]
    assert words in watch.alerts[0].text
    assert len(watch.stopped) == 1


@pytest.mark.wire
async def test_what_fails_once_is_looked_at_again_before_anybody_is_woken(keyed):
    async with place() as venue, connected("testnet", addresses(venue.config(), "testnet")) as line:
        watch = Watch(venue.config(), line, instruments=await ready(line), feeds_lost=("user",))
        looked = 0

        def state():
            nonlocal looked
            looked += 1
            lost = ("user",) if looked < 4 else ()
            return State(**watch.state | {"feeds_lost": lost})

        watch.sentinel._state = state
        await watch.sentinel.look()

    assert watch.alerts == watch.stopped == []


# Log files -------------------------------------------------------------------------------------------------------------


def test_log_files_go_by_the_day_and_old_ones_go(tmp_path):
    log = DailyFile(tmp_path)
    log.write("one line\n")
    log.close()
    (tmp_path / "bot-2020-01-01.log").write_text("old")

    dropped = forget_old_logs(tmp_path, 30)

    assert dropped == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ["one line\n"]


def test_a_log_file_that_cannot_be_written_stops_nobody(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    log = DailyFile(tmp_path / "logs")

    log.write("a line\n")

    assert log.lost == 1


# The running bot -------------------------------------------------------------------------------------------------------


@pytest.mark.wire
async def test_a_bot_on_a_real_market_keeps_its_timetable_and_reports_its_day(keyed, tmp_path, monkeypatch):
    from contextlib import AsyncExitStack

    from bot.app import venues
    from bot.app.options import RunOptions
    from bot.app.run import Bot
    from bot.journal import Journal

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with place() as exchange, AsyncExitStack() as stack:
        config = exchange.config(data={"history_bars": 60})
        options = RunOptions(venue="testnet", dashboard=False, quiet=True, json=True)
        journal = stack.enter_context(Journal(tmp_path / "bot.db"))
        bot = Bot(config, options, await venues.testnet(config, options, stack), journal)
        stack.push_async_callback(bot.close)
        await bot.start()
        heard = bot.hub.subscribe()
        bot._start_jobs()
        await bot.upkeep._look()
        await bot.upkeep.daily()
        bot.failure = RuntimeError("planned")
        times, sentinel = bot.upkeep.timetable.next_times(), bot.upkeep.sentinel
        await bot.upkeep.close()
        alerts = [item for item in heard.take() if isinstance(item, Alert)]
        seen = bot.snapshot()

    assert set(times) == {"sentinel", "daily"}
    assert [check.text for check in sentinel.last if check.status == "fail"] == []
    assert alerts[0].text.startswith("day: 0 trades, +0.00 R; equity 1000")
    assert alerts[-1].level == "critical"
    assert "the bot stops: RuntimeError: planned" in alerts[-1].text
    assert seen["sentinel"]["stop orders"]["status"] == "ok"


async def test_a_replay_has_no_upkeep():
    from types import SimpleNamespace

    from bot.app.upkeep import upkeep_of

    assert upkeep_of(SimpleNamespace(venue=SimpleNamespace(name="sim"))) is None


def test_what_libraries_say_is_json_where_the_log_is():
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("bot.feeds", logging.WARNING, "f", 1, "stream %s lost", ("market",), sys.exc_info())

    told = json.loads(library_form("json").format(record))

    assert (told["level"], told["logger"], told["event"]) == ("warning", "bot.feeds", "stream market lost")
    assert told["timestamp"].endswith("Z")
    assert "ValueError: broken" in told["exception"]
    assert "WARNING bot.feeds: stream market lost" in library_form("text").format(record)
