"""Taking up a session: the same settings, other settings, a record that the program no longer leads to."""

from dataclasses import replace
from decimal import Decimal as D
from types import SimpleNamespace

import pytest

from bot.app.credentials import Credentials
from bot.app.measures import Measures
from bot.app.recovery import Recovery
from bot.app.sessions import engine_settings, replay, same_settings, settings_text
from bot.app.venues import TradingVenue
from bot.config import Config
from bot.core.errors import InvariantError
from bot.core.events import AccountUpdate, KlineClosed, SessionStarted
from bot.core.intents import PlaceOrder
from bot.engine import view as engine_view
from bot.journal import Damaged, Journal, Session
from bot.strategy.early import EarlyFeatures
from tests.builders import kline
from tests.engine_harness import BTC, Harness, started


def venue(speed=1.0):
    return TradingVenue("testnet", "", "", Credentials(""), "a", clock=None, activity=None, resume=True, speed=speed)


def written(path, harness):
    """A journal with the harness's session in it."""
    journal = Journal(path / "bot.db")
    session = journal.open_session("testnet", "a", resume=True, config=settings_text(Config(), venue()))
    for event, outputs in zip(harness.events, harness.batches, strict=True):
        journal.append_outputs(journal.append_event(event), outputs)
    journal.commit()
    return journal, session


def fresh(harness):
    again = Harness(harness.side)
    again.rows.rows = harness.rows.rows
    return again.engine


def test_a_replay_ends_where_the_session_was_and_knows_its_last_bars(tmp_path):
    h = started().enter()
    journal, session = written(tmp_path, h)
    engine, bars = fresh(h), []
    with journal:
        result = replay(journal, session, engine, on_bar=bars.append)

    assert result.fault == ""
    assert engine_view.digest(engine) == engine_view.digest(h.engine)
    assert result.last_open[BTC] == bars[-1].kline.open_ms
    assert result.last_ms == max(e.at_ms for e in h.events)


def test_an_order_on_record_that_nothing_leads_to_any_more_is_a_fault(tmp_path):
    h = started()
    h.signal()
    journal, session = written(tmp_path, h)
    h.rows.rows = {}  # another version of the indicators: no signal

    with journal:
        result = replay(journal, session, fresh(h), on_bar=lambda event: None)

    assert "is on record, and nothing leads to it" in result.fault


class Shell(Recovery):
    """As much of the bot as taking up a session needs."""

    def __init__(self, journal, harness):
        self.config, self.journal, self.harness, self.told = Config(), journal, harness, []
        self.venue = replace(venue(), clock=SimpleNamespace(now_ms=lambda: harness.now))
        self.quiet, self.calendar, self.ledger, self.session = True, (), None, None
        self.measures = Measures()
        self.loop = SimpleNamespace(last_ms=0)
        self.gateway = SimpleNamespace(know_orders=lambda orders: None)
        self.engine = self.new_engine(self.config)

    def new_engine(self, config):
        return fresh(self.harness)

    def _open_ledger(self, session): ...
    def _bar(self, event): ...

    def _own_alert(self, alert):
        self.told.append(alert)


def test_after_a_replay_that_is_not_believed_nothing_is_entered_until_a_person_has_looked(tmp_path):
    h = started()
    h.signal()
    h.run(60_000)
    h.cash = h.wallet * D("0.95")
    h.send(AccountUpdate(h.now, "INSURANCE_CLEAR", h.cash, -h.wallet * D("0.05"), ()))
    h.bar()
    h.send(h.snapshot())
    assert h.engine.limits.soft_stopped
    journal, _ = written(tmp_path, h)
    h.rows.rows = {}  # another version of the indicators: the order on record is led to by nothing

    with journal:
        shell = Shell(journal, h)
        shell.take_up_session()

    assert "are not known: start entries when you have looked" in shell.engine.entries_off
    assert [a.level for a in shell.told] == ["critical"]
    assert "start them on the dashboard" in shell.told[0].text


def test_an_order_that_the_record_does_not_hold_is_a_fault(tmp_path):
    h = started().enter()
    for batch in h.batches:
        batch[:] = [o for o in batch if not (isinstance(o, PlaceOrder) and "-sl-" in o.client_id)]
    journal, session = written(tmp_path, h)

    with journal:
        result = replay(journal, session, fresh(h), on_bar=lambda event: None)

    assert "which is not on record like this" in result.fault


def test_an_event_that_breaks_a_rule_ends_the_replay_with_its_number(tmp_path):
    h = started().enter()
    wrong = SessionStarted(h.now, "sim", D(1), ())  # no instrument
    with pytest.raises(InvariantError):
        h.engine.handle(wrong)
    h.events.append(wrong)
    h.batches.append([])
    journal, session = written(tmp_path, h)

    with journal:
        result = replay(journal, session, fresh(h), on_bar=lambda event: None)

    assert result.fault.startswith(f"event {len(h.events)} breaks a rule")


def test_an_event_that_the_engine_cannot_handle_at_all_ends_the_replay_too(tmp_path):
    h = started().enter()
    journal, session = written(tmp_path, h)
    engine = fresh(h)
    engine.features.step = lambda event: 1 / 0  # another version with a bug

    with journal:
        result = replay(journal, session, engine, on_bar=lambda event: None)

    assert "cannot be handled: ZeroDivisionError: division by zero" in result.fault


def test_an_open_session_is_gone_on_with_in_the_settings_that_it_was_begun_with():
    old = Config()
    session = Session(1, "testnet", "a", True, 5, settings_text(old, venue(30.0)))
    new = old.model_copy(update={"trade": old.trade.model_copy(update={"tp1_r": 2.0, "tp2_r": 3.0})})

    assert same_settings(session, old)
    assert not same_settings(session, new)
    assert engine_settings(session, new, venue(31.0)).trade.tp1_r == old.trade.tp1_r
    assert engine_settings(session, new, venue(31.0)).trade.naked_limit_ms == 45_000  # the speed measured then
    assert engine_settings(Session(1, "t", "a", True, 5), new, venue()) == new


@pytest.mark.parametrize("text", ['{"config": {"no_such_section": {}}, "speed": 1}', "{", "[]"])
def test_settings_that_this_version_does_not_know_are_damage_in_one_sentence(text):
    session = Session(1, "testnet", "a", True, 5, text)

    with pytest.raises(Damaged, match=r"^session 1 was begun with settings that this version does not know$"):
        engine_settings(session, Config(), venue())


def test_looking_at_a_bar_gives_what_taking_it_gives_and_leaves_no_trace():
    features, twin = EarlyFeatures(Config()), EarlyFeatures(Config())
    for i in range(30):
        event = KlineClosed(0, kline(i, 60_000.0 + 37 * (i % 7)))
        before = features.state_bytes("BTCUSDT")
        early = features.peek(event)
        assert features.state_bytes("BTCUSDT") == before
        taken, expected = features.step(event), twin.step(event)
        assert repr(early.as_dict()) == repr(taken.as_dict()) == repr(expected.as_dict())
    assert features.state_bytes("BTCUSDT") == twin.state_bytes("BTCUSDT")


def test_a_bar_that_cannot_be_is_refused_in_a_look_without_a_note():
    features = EarlyFeatures(Config())

    assert features.peek(KlineClosed(0, kline(0, 1.0, high=0.5, low=0.4, open=1.0))) is None
    assert features.refused == []
