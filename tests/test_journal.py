"""What is written comes back: the codec of all events, intents and records, and the journal that survives being killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import types
from dataclasses import fields, replace
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.codec import TYPES, decode, encode, pack, unpack
from bot.core.errors import BotError, DataError, DataMissing, InvariantError
from bot.core.events import AccountSnapshot, Command, Fill, KlineClosed, OrderUpdate, TimerFired
from bot.core.intents import Alert, CancelOrder, PlaceOrder, SetTimer
from bot.core.records import Decision, EquityPoint, NakedSpell, TradeFill, TradeRecord
from bot.core.types import Kline, OrderReport, OrderSide, OrderStatus, OrderType, Side, TimeInForce
from bot.engine import view as engine_view
from bot.journal import Journal
from tests.engine_harness import Harness, started

ROOT = Path(__file__).resolve().parent.parent
D = Decimal
WHOLE = st.integers(-(2**62), 2**62)
FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.just("$"), inner, max_size=3)
    ),
    max_leaves=8,
)


def values_of(annotation: Any) -> st.SearchStrategy:
    """Any value that a field of this annotation may hold."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    simple = {str: st.text(), int: WHOLE, bool: st.booleans(), float: st.floats(), Decimal: st.decimals()}
    if annotation in simple:
        return simple[annotation]
    if annotation is type(None):
        return st.none()
    if annotation is Any:
        return FREE
    if origin in (Union, types.UnionType):
        return st.one_of([values_of(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*[values_of(argument) for argument in arguments])
    if origin is dict:
        return st.dictionaries(st.text() | st.just("$"), values_of(arguments[1]), max_size=4)
    if issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    hints = get_type_hints(annotation)
    names = annotation._fields if issubclass(annotation, tuple) else [part.name for part in fields(annotation)]
    return st.builds(annotation, **{name: values_of(hints[name]) for name in names})


def kline_closed(i: int, symbol: str = "BTCUSDT") -> KlineClosed:
    bar = Kline(
        symbol, 180_000, i * 180_000, 60_000.1 + i, 60_010.0 + i, 59_990.5 + i, 60_001.0 + i, 12.5, float("nan")
    )
    return KlineClosed(bar.close_ms, bar, history=True)


def update(
    status: OrderStatus, filled: str = "0", at_ms: int = 5, client_id: str = "rbS-en-0-0000001-01-a1"
) -> OrderUpdate:
    return OrderUpdate(at_ms, client_id, "BTCUSDT", status, OrderSide.BUY, D("0.010"), D(filled), D("60000.1"), "77")


def fill(trade_id: int = 1, at_ms: int = 6) -> Fill:
    return Fill(
        at_ms,
        "rbS-en-0-0000001-01-a1",
        "BTCUSDT",
        OrderSide.BUY,
        D("0.010"),
        D("60000.10"),
        D("0.12000020"),
        True,
        trade_id,
    )


def entry_order() -> PlaceOrder:
    return PlaceOrder(
        "rbS-en-0-0000001-01-a1", "BTCUSDT", OrderSide.BUY, OrderType.LIMIT, D("0.010"), D("60000.1"), TimeInForce.GTX
    )


def trade_record(trade_id: str = "1", signal_ms: int = 1, opened_ms: int = 2) -> TradeRecord:
    entry = TradeFill(6, "BTCUSDT", "en", "BUY", D("0.010"), D("60000.10"), D("0.12000020"), True)
    prices = [
        "plan_entry",
        "plan_stop",
        "plan_qty",
        "uncut_qty",
        "qty",
        "entry_price",
        "exit_price",
        "stop",
        "tp1",
        "tp2",
    ]
    money = dict.fromkeys(
        [*prices, "risk_quote", "pnl", "alpha_pnl", "hedge_pnl", "fees", "funding"], D("0.10000000000000000001")
    )
    ratios = dict.fromkeys(
        ("r_multiple", "alpha_r", "hedge_r", "expected_cost_r", "net_beta", "max_favourable_r", "max_adverse_r"), 0.1
    )
    return TradeRecord(
        trade_id, "BTCUSDT", Side.LONG, signal_ms, opened_ms, 9, "tp2", **money, **ratios, naked_ms=12, fills=(entry,)
    )


def decision(open_ms: int) -> Decision:
    lights = (True, False, True, True, False, True)
    return Decision(
        open_ms + 180_000, open_ms, lights, lights, 1, "funding", "0.07 % > 0.06 %", {"rate": 0.0007, "who": "a"}
    )


# Codec


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_what_is_decoded_equals_what_was_encoded(kind):
    @given(values_of(kind))
    def law(value):
        text = orjson.dumps(encode(value))

        back = decode(orjson.loads(text))

        assert repr(back) == repr(value)  # to the digit, with the types of all parts, and NaN equals NaN
        assert type(back) is type(value)

    law()


def test_money_keeps_digits_that_a_float_would_lose():
    assert unpack("Fill", pack(replace(fill(), price=D("0.10000000000000000001")))).price == D("0.10000000000000000001")


def test_scalars_of_numpy_are_stored_as_plain_numbers():
    verdict = replace(
        decision(0), signal=np.int64(-1), values={"a": np.float64(1.5), "b": np.bool_(True), "c": np.float64("nan")}
    )

    body = orjson.loads(orjson.dumps(pack(verdict)))

    assert body["signal"] == -1
    assert body["values"] == {"a": 1.5, "b": True, "c": {"$": "float", "v": "nan"}}


def test_a_field_that_an_older_version_did_not_write_takes_its_default():
    body = pack(update(OrderStatus.NEW))
    del body["reason"], body["code"]

    assert unpack("OrderUpdate", body) == update(OrderStatus.NEW)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Nonsense", {}),
        ("TimerFired", {"name": None, "at_ms": None, "extra": 1}),
        ("Fill", {"qty": "many"}),
        ("Fill", {"side": "SIDEWAYS"}),
        ("Command", {"args": {"$": "spell", "v": 1}}),
    ],
)
def test_a_stored_thing_that_cannot_be_read_is_one_sentence(name, change):
    known = {"TimerFired": TimerFired(1, "x"), "Fill": fill(), "Command": Command(1, "arm")}
    body = {**(pack(known[name]) if name in known else {}), **change}

    with pytest.raises(DataError, match=r"cannot be read|this version knows"):
        unpack(name, body)


def test_what_is_no_event_intent_or_record_is_refused():
    with pytest.raises(DataError, match="list is not an event"):
        pack([])
    with pytest.raises(DataError, match="object cannot be stored"):
        pack(Command(1, "arm", {"x": object()}))


# Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "bot.db"


def test_events_come_back_in_order_as_they_were(path):
    events = [
        kline_closed(1),
        update(OrderStatus.NEW),
        fill(),
        TimerFired(8, "entry"),
        Command(9, "arm", {"by": D("1.0")}),
    ]
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)

        numbers = [journal.append_event(event) for event in events]

    with Journal(path, read_only=True) as journal:
        assert numbers == [1, 2, 3, 4, 5]
        assert repr(list(journal.events(session.id))) == repr(list(enumerate(events, 1)))
        assert [seq for seq, _ in journal.events(session.id, after=3)] == [4, 5]


def test_history_is_appended_in_bulk_before_single_events(path):
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)

        last = journal.append_events(kline_closed(i) for i in range(1000))

        assert last == 1000
        assert journal.append_event(TimerFired(1, "x")) == 1001
        assert len(list(journal.events(session.id))) == 1001


def test_sim_starts_afresh_and_a_live_account_resumes_its_unfinished_session(path):
    with Journal(path) as journal:
        first = journal.open_session("testnet", "a", resume=True)
        journal.append_event(TimerFired(1, "x"))
        other = journal.open_session("testnet", "b", resume=True)
        sim = journal.open_session("sim", "a", resume=False)

    with Journal(path) as journal:
        again = journal.open_session("testnet", "a", resume=True)
        assert (again.id, again.resumed, again.events) == (first.id, True, 1)
        assert journal.append_event(TimerFired(2, "y")) == 2
        assert journal.open_session("sim", "a", resume=False).id > sim.id
        assert journal.open_session("testnet", "b", resume=True).id == other.id
        journal.end_session(3)
        assert not journal.open_session("testnet", "b", resume=True).resumed


def test_only_intents_ask_for_a_commit_before_they_are_performed(path):
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        seq = journal.append_event(TimerFired(1, "x"))

        assert not journal.append_outputs(seq, [decision(0), EquityPoint(1, D("1000"), D("1001.5"), D("1002"), -0.5)])
        assert journal.append_outputs(seq + 1, [SetTimer("entry", 700), entry_order(), CancelOrder("q", "BTCUSDT")])
        journal.commit()

        assert [type(i).__name__ for _, i in journal.intents(session.id)] == ["SetTimer", "PlaceOrder", "CancelOrder"]
        assert list(journal.intents(session.id))[1] == (seq + 1, entry_order())
        assert list(journal.decisions(session.id)) == [decision(0)]
        assert journal.equity(session.id) == [EquityPoint(1, D("1000"), D("1001.5"), D("1002"), -0.5)]


def test_answers_of_a_replayed_event_are_not_stored_twice(path):
    outputs = [entry_order(), decision(0), trade_record(), EquityPoint(1, D(1), D(1), D(1), 0.0)]
    with Journal(path) as journal:
        session = journal.open_session("testnet", "a", resume=True)
        seq = journal.append_event(TimerFired(1, "x"))

        for _ in range(2):
            journal.append_outputs(seq, outputs)

        assert len(list(journal.intents(session.id))) == 1
        assert journal.trades(session.id) == [trade_record()]
        assert (
            len(list(journal.decisions(session.id)))
            == len(journal.equity(session.id))
            == len(journal.orders(session.id))
            == 1
        )


def test_money_is_stored_as_text(path):
    with Journal(path) as journal:
        journal.open_session("sim", "a", resume=False)
        seq = journal.append_event(fill())
        journal.append_outputs(seq, [trade_record(), EquityPoint(1, D("0.10000000000000000001"), D(1), D(1), 0.0)])

    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT typeof(price), fee FROM fills").fetchone() == ("text", "0.12000020")
        assert raw.execute("SELECT typeof(wallet), wallet FROM equity").fetchone() == ("text", "0.10000000000000000001")
        assert raw.execute("SELECT typeof(pnl), pnl FROM trades").fetchone() == ("text", "0.10000000000000000001")
    raw.close()


def test_an_order_is_pending_from_the_intent_and_its_status_never_goes_back(path):
    story = [
        OrderStatus.UNKNOWN,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.NEW,
        OrderStatus.UNKNOWN,
        OrderStatus.FILLED,
    ]
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        journal.append_outputs(journal.append_event(TimerFired(4, "x")), [entry_order()])
        seen = [journal.orders(session.id)[0]["status"]]

        for status in [*story, OrderStatus.CANCELED]:
            journal.append_event(update(status, "0.010" if status is OrderStatus.FILLED else "0.004"))
            seen.append(journal.orders(session.id)[0]["status"])

        assert seen == ["PENDING", "UNKNOWN", *["PARTIALLY_FILLED"] * 3, "FILLED", "FILLED"]
        order = journal.orders(session.id)[0]
        assert (order["type"], order["price"], order["created_ms"], order["filled_qty"]) == (
            "LIMIT",
            "60000.1",
            4,
            "0.010",
        )
        assert journal.orders(session.id, working=True) == []


def test_a_fill_told_twice_or_by_a_snapshot_counts_once(path):
    working = OrderReport(
        "rbS-sl-0-0000001-01-a1", "BTCUSDT", OrderSide.SELL, OrderType.STOP_MARKET, OrderStatus.NEW,
        D("0.010"), D(0), D(0), D("59000.0"), True, False, True, 7,
    )  # fmt: skip
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)

        for event in (fill(1), fill(1), AccountSnapshot(8, D(1000), (), (working,), (fill(1), fill(2)))):
            journal.append_event(event)

        assert [row["trade_id"] for row in journal.fills(session.id)] == [1, 2]
        assert [row["client_id"] for row in journal.orders(session.id, working=True)] == ["rbS-sl-0-0000001-01-a1"]


def test_last_trades_leave_out_setups_that_filled_nothing(path):
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        seq = journal.append_event(TimerFired(4, "x"))
        trades = [trade_record("1", 1), trade_record("2", 2, opened_ms=0), trade_record("3", 3)]
        journal.append_outputs(seq, trades)

        assert journal.trades() == trades
        assert [trade.trade_id for trade in journal.last_trades(5)] == ["1", "3"]
        assert [trade.trade_id for trade in journal.last_trades(1, session.id)] == ["3"]
        assert journal.sessions()[0]["trades"] == 2


def test_a_reader_beside_the_running_bot_sees_what_is_committed(path):
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        journal.append_event(TimerFired(1, "x"))
        journal.commit()
        journal.append_event(TimerFired(2, "not yet"))

        with Journal(path, read_only=True) as reader:
            assert [seq for seq, _ in reader.events(session.id)] == [1]
            with pytest.raises(BotError, match="readonly"):
                reader.open_session("sim", "a", resume=False)


def test_forget_drops_the_event_streams_of_old_replays_and_keeps_their_trades(path):
    with Journal(path) as journal:
        for _ in range(4):
            session = journal.open_session("sim", "a", resume=False)
            journal.append_outputs(journal.append_event(TimerFired(1, "x")), [entry_order(), trade_record()])

        assert journal.forget(venue="sim", keep=2) == 2

        assert [len(list(journal.events(i))) for i in range(1, session.id + 1)] == [0, 0, 1, 1]
        assert len(journal.trades()) == 4


def test_settle_moves_the_log_into_the_file_after_a_closed_trade(path):
    with Journal(path) as journal:
        journal.open_session("sim", "a", resume=False)
        seq = journal.append_event(TimerFired(1, "x"))
        journal.settle()
        before = path.stat().st_size

        journal.append_outputs(seq, [trade_record()])
        journal.settle()

        assert path.stat().st_size >= before
        with sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True) as only_the_file:
            assert only_the_file.execute("SELECT count(*) FROM trades").fetchone() == (1,)
        only_the_file.close()
    assert not path.with_name("bot.db-wal").exists()


def test_settle_leaves_no_wait_for_the_disk_to_the_next_commit(path):
    log = path.with_name("bot.db-wal")
    with Journal(path) as journal:
        journal.open_session("sim", "a", resume=False)
        journal.append_outputs(journal.append_event(TimerFired(1, "x")), [trade_record()])
        journal.commit()
        old = log.read_bytes()[:32]

        journal.settle()
        begun = log.read_bytes()[:32]
        journal.append_event(TimerFired(2, "y"))
        journal.commit()

        assert begun != old  # the log was begun anew, with a header that has to reach the disk ...
        assert log.read_bytes()[:32] == begun  # ... by `settle` itself
        assert len(journal.measures(1, "settle_ms")) == 1


CHILD = """
import sys, time
from bot.core.events import TimerFired
from bot.core.intents import SetTimer
from bot.journal import Journal
from tests.engine_harness import Harness, started
journal = Journal(sys.argv[1])
journal.open_session("testnet", "a", resume=True)
for i in range(500):
    seq = journal.append_event(TimerFired(i, "committed"))
    journal.append_outputs(seq, [SetTimer("t", i)])
    journal.commit()
journal.append_event(TimerFired(999, "not committed"))
print("ready", flush=True)
time.sleep(60)
"""


def test_what_was_committed_survives_a_kill_and_the_session_is_resumed(path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(BotError, match=rf"another bot is running on .*\(pid {child.pid}\)"):
            Journal(path)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()

    with Journal(path) as journal:
        session = journal.open_session("testnet", "a", resume=True)

        assert (session.resumed, session.events) == (True, 500)
        assert [event.name for _, event in journal.events(session.id)] == ["committed"] * 500
        assert [intent.delay_ms for _, intent in journal.intents(session.id)] == list(range(500))


def test_a_second_bot_is_refused_and_the_lock_ends_with_the_first(path):
    with Journal(path), pytest.raises(BotError, match=rf"another bot is running on .*bot\.db \(pid {os.getpid()}\)"):
        Journal(path)

    Journal(path).close()


def write_text(path: Path) -> None:
    path.write_text("this is a shopping list\n" * 50)


def write_other_database(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE recipes (name TEXT)")
    raw.close()


def write_newer_journal(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()


def write_torn_journal(path: Path) -> None:
    Journal(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (write_text, "not a readable journal"),
        (write_other_database, "database of something else"),
        (write_newer_journal, "newer version"),
        (write_torn_journal, "not a readable journal"),
    ],
)
def test_a_file_that_is_no_journal_is_refused_in_one_sentence_and_left_alone(tmp_path, spoil, words):
    path = tmp_path / "bot.db"
    spoil(path)
    before = path.read_bytes()

    with pytest.raises(DataError, match=words) as caught:
        Journal(path)

    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    with pytest.raises(DataError, match=words):  # and the failed attempt has left no lock
        Journal(path)


def test_sync_full_waits_for_the_disk_at_each_commit(path):
    for sync, level in (("normal", 1), ("full", 2)):
        with Journal(path, sync=sync) as journal:
            assert journal._db.execute("PRAGMA synchronous").fetchone()[0] == level


def test_decisions_are_found_by_the_opening_of_their_bar(path):
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        journal.append_outputs(journal.append_event(TimerFired(1, "x")), [decision(i * 180_000) for i in range(4)])

        found = journal.decisions(session.id, from_ms=180_000, to_ms=540_000)

        assert [decision.open_ms for decision in found] == [180_000, 360_000]


def test_reading_where_no_bot_has_run_says_so(path):
    with pytest.raises(DataMissing, match="no bot has run"):
        Journal(path, read_only=True)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(BotError, match="cannot be used"):
        Journal(tmp_path / "file" / "bot.db")


def test_writing_before_a_session_is_open_is_our_own_bug(path):
    with Journal(path) as journal, pytest.raises(InvariantError, match="before a session"):
        journal.append_event(TimerFired(1, "x"))


def test_an_equity_point_whose_r_is_not_known_is_kept(path):
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        seq = journal.append_event(TimerFired(1, "x"))

        journal.append_outputs(seq, [EquityPoint(i, D(i), D(i), D(i), float("nan")) for i in range(3)])

        assert repr(journal.equity(session.id, last=2)) == repr(
            [EquityPoint(i, D(i), D(i), D(i), float("nan")) for i in (1, 2)]
        )


@pytest.mark.parametrize("side", Side)
def test_an_engine_replayed_from_the_journal_knows_what_the_first_one_knew(path, side):
    bot = started(side).enter()
    bot.move(bot.at(200))
    bot.run(5_000)
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        for event, outputs in zip(bot.events, bot.batches, strict=True):
            journal.append_outputs(journal.append_event(event), outputs)

        again = Harness(side)
        again.rows.rows = bot.rows.rows
        answers = [again.engine.handle(event) for _, event in journal.events(session.id)]

        assert engine_view.digest(again.engine) == engine_view.digest(bot.engine)
        assert [o for batch in answers for o in batch] == bot.outputs
        intents = [o for o in bot.outputs if not isinstance(o, Decision | TradeRecord | EquityPoint | NakedSpell)]
        assert [intent for _, intent in journal.intents(session.id)] == intents
        assert {row["status"] for row in journal.orders(session.id)} >= {"FILLED"}
        assert len(journal.fills(session.id)) == len(bot.fills)


def test_an_alert_with_any_payload_is_stored(path):
    alert = Alert("critical", "position without a stop", {"qty": D("0.1"), "ids": ("a", "b")})
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)

        journal.append_outputs(journal.append_event(TimerFired(1, "x")), [alert])

        assert list(journal.intents(session.id)) == [(1, alert)]


# Sessions remember


def test_a_new_session_takes_over_what_the_last_one_of_its_account_left(path):
    memory = {"peak": "1234.5", "day_hit": True}
    with Journal(path) as journal:
        first = journal.open_session("live", "a", resume=True, config="{}")
        journal.append_event(TimerFired(1, "x"))
        journal.end_session(5, memory=memory)
        second = journal.open_session("live", "a", resume=True)
        journal.end_session(6)  # it ended before it had anything to remember
        third = journal.open_session("live", "a", resume=True)
        other = journal.open_session("live", "b", resume=True)
        fresh = journal.open_session("sim", "a", resume=False)

    assert (first.memory, first.config) == (None, "{}")
    assert second.memory == third.memory == memory
    assert (other.memory, fresh.memory) == (None, None)


def test_a_session_has_begun_once_the_account_was_looked_at(path):
    with Journal(path) as journal:
        session = journal.open_session("live", "a", resume=True)
        journal.append_event(TimerFired(1, "x"))
        before = journal.has_begun(session.id)
        journal.append_event(AccountSnapshot(2, D(1), (), ()))

        assert (before, journal.has_begun(session.id)) == (False, True)


def test_naked_spells_and_measures_are_kept_and_a_corrected_spell_replaces_the_first(path):
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        spells = [NakedSpell(100, "BTCUSDT", "t1", 40, "alpha"), NakedSpell(90, "ETHUSDT", "t1", 30, "leg")]
        seq = journal.append_event(TimerFired(1, "x"))
        journal.append_outputs(seq, [*spells, NakedSpell(100, "BTCUSDT", "t1", 55, "alpha")])
        journal.measure("decision_ms", 1.5, at_ms=1)
        journal.measure("decision_ms", 2.5, at_ms=2)

        assert [(s.symbol, s.ms) for s in journal.naked(session.id)] == [("ETHUSDT", 30), ("BTCUSDT", 55)]
        assert journal.measures(session.id, "decision_ms") == [1.5, 2.5]
        assert journal.measures(session.id, "nothing") == []


def test_intents_may_be_recorded_before_the_records_that_came_with_them(path):
    harness = started()
    harness.signal()
    outputs = next(batch for batch in harness.batches if any(isinstance(o, PlaceOrder) for o in batch))
    with Journal(path) as journal:
        session = journal.open_session("sim", "a", resume=False)
        seq = journal.append_event(TimerFired(1, "x"))
        journal.append_outputs(seq, outputs, records=False)
        urgent = (len(list(journal.intents(session.id))), len(list(journal.decisions(session.id))))
        journal.append_outputs(seq, outputs, intents=False)

        assert urgent == (sum(not isinstance(o, Decision | EquityPoint) for o in outputs), 0)
        assert len(list(journal.decisions(session.id))) == 1


def test_a_journal_of_the_first_version_is_brought_up_to_date_with_all_that_it_holds(path):
    with Journal(path) as journal:
        session = journal.open_session("live", "a", resume=True)
        journal.append_event(TimerFired(1, "x"))
    with sqlite3.connect(path) as db:
        for table in ("naked", "measures"):
            db.execute(f"DROP TABLE {table}")
        for column in ("config", "memory", "final"):
            db.execute(f"ALTER TABLE sessions DROP COLUMN {column}")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'sessions_remember'")
        db.execute("PRAGMA user_version = 1")
    db.close()

    with Journal(path) as journal:
        again = journal.open_session("live", "a", resume=True)
        journal.measure("decision_ms", 1.0, at_ms=1)

        assert (again.id, again.resumed, again.events) == (session.id, True, 1)
        assert journal.measures(again.id, "decision_ms") == [1.0]
