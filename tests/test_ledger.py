"""The repaint ledger: what was decided is kept as it was, computed again, and any difference is told."""

from types import SimpleNamespace

import numpy as np
import pytest

from bot.app.run import Bot
from bot.config import Config
from bot.core.errors import DataError
from bot.core.events import KlineClosed
from bot.core.klines import aggregate
from bot.core.types import Kline
from bot.market.synthetic import synthetic_market
from bot.report.ledger import Miss, RepaintLedger, forget, left
from bot.strategy.features import INDEX, Features

HISTORY, COUNT = 300, 420


@pytest.fixture(scope="module")
def decided():
    """Events of all symbols in order, with the row that the decision saw."""
    config, market = Config(), synthetic_market(2, 3)
    series = {symbol: aggregate(minutes, 180_000) for symbol, minutes in market.klines.items()}
    features = Features(config)
    result = []
    for i in range(COUNT):
        for symbol in ("ETHUSDT", "SOLUSDT", "BTCUSDT"):
            b = series[symbol]
            values = (b.open[i], b.high[i], b.low[i], b.close[i], b.volume[i], b.taker_buy_volume[i])
            bar = Kline(symbol, 180_000, int(b.open_ms[i]), *map(float, values))
            event = KlineClosed(bar.close_ms, bar, history=i < HISTORY)
            result.append((event, features.step(event).values))
    return config, result


def feed(ledger, decided, change=None):
    misses = []
    for event, values in decided:
        ledger.take(event, change(event, values) if change else values)
        if event.kline.symbol == "BTCUSDT" and (miss := ledger.check()):
            misses.append(miss)
    return misses


def test_bars_that_stay_as_they_were_are_counted_and_none_is_rewritten(decided, tmp_path):
    config, bars = decided
    with RepaintLedger(config, folder=tmp_path, session=7) as ledger:
        misses = feed(ledger, bars)
        last = ledger.finish()

    count = 3 * (COUNT - HISTORY)
    assert misses == []
    assert last is None
    assert ledger.summary()["text"] == f"0 of {count} closed bars rewritten"
    names = ("BTCUSDT.rows", "ETHUSDT.rows", "SOLUSDT.rows", "summary.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"7-{name}" for name in names]
    assert left(tmp_path, 7) == ledger.summary()


def test_one_value_that_was_another_is_found_and_named(decided):
    config, bars = decided
    at = bars[3 * 350 + 2][0].kline.open_ms

    def change(event, values):
        if event.kline.symbol == "BTCUSDT" and event.kline.open_ms == at:
            values = values.copy()
            values[INDEX["om_hyperwave"]] += 1e-9
        return values

    ledger = RepaintLedger(config)
    misses = feed(ledger, bars, change)

    assert len(misses) == 1
    assert (misses[0].symbol, misses[0].open_ms, misses[0].column) == ("BTCUSDT", at, "om_hyperwave")
    assert "was rewritten: om_hyperwave was" in str(misses[0])
    ledger.finish()
    assert ledger.summary()["rewritten"] == 1


def test_a_bar_that_was_different_when_decided_is_a_rewrite(decided):
    config, bars = decided
    event, values = bars[3 * 400 + 2]
    other = event.kline._replace(close=event.kline.low)
    changed = [*bars[: 3 * 400 + 2], (KlineClosed(event.at_ms, other), values), *bars[3 * 400 + 3 :]]

    ledger = RepaintLedger(config)
    feed(ledger, changed)
    ledger.finish()

    assert ledger.rewritten > 0
    assert ledger.first.open_ms == event.kline.open_ms


def test_a_value_that_stops_being_ready_is_a_rewrite_and_one_that_never_was_is_none(decided):
    config, bars = decided

    def change(event, values):
        values = values.copy()
        values[np.isnan(values)] = -np.nan
        if event is bars[-1][0]:
            values[INDEX["so_trail"]] = np.nan
        return values

    ledger = RepaintLedger(config)
    feed(ledger, bars, change)
    ledger.finish()

    assert ledger.rewritten == 1
    assert ledger.first.column == "so_trail"


def test_after_a_restart_the_rows_of_the_process_before_are_what_is_judged(decided, tmp_path):
    config, bars = decided
    half = 3 * 360
    with RepaintLedger(config, folder=tmp_path, session=1) as before:
        feed(before, bars[:half])
    path = tmp_path / "1-BTCUSDT.rows"
    held = path.read_bytes()
    path.write_bytes(held + b"half a record")

    with RepaintLedger(config, folder=tmp_path, session=1) as after:
        feed(after, bars)
        after.finish()

    assert after.rewritten == 0
    assert after.judged == 3 * (COUNT - HISTORY)
    record = 8 * (1 + len(INDEX))
    assert path.stat().st_size == len(held) + (COUNT - 360) * record

    damaged = bytearray(path.read_bytes())
    at = len(held) - 5 * record + 8 * (1 + INDEX["so_trail"])
    damaged[at : at + 8] = np.float64(1.0).tobytes()
    path.write_bytes(damaged)
    with RepaintLedger(config, folder=tmp_path, session=1) as again:
        feed(again, bars)
        again.finish()
    assert (again.rewritten, again.first.column, again.first.stored) == (1, "so_trail", 1.0)


def test_early_refused_and_repeated_bars_are_passed_over(decided):
    config, bars = decided
    event, values = bars[-1]
    ledger = RepaintLedger(config)
    feed(ledger, bars)

    ledger.take(event, values)
    later = event.kline._replace(open_ms=event.kline.open_ms + 180_000)
    ledger.take(KlineClosed(event.at_ms, later, early=True), values)
    ledger.take(KlineClosed(event.at_ms, later), None)
    ledger.finish()

    assert ledger.summary()["bars"] == ledger.judged == 3 * (COUNT - HISTORY)


def test_a_book_of_other_columns_is_refused_with_one_sentence(decided, tmp_path):
    (tmp_path / "1-BTCUSDT.rows").write_bytes(b'{"version":0,"columns":[]}\n')

    with pytest.raises(DataError, match="another version: move it away"):
        RepaintLedger(decided[0], folder=tmp_path, session=1)


def test_books_of_forgotten_sessions_are_removed(decided, tmp_path):
    for session in (1, 2, 12):
        with RepaintLedger(decided[0], folder=tmp_path, session=session):
            pass

    assert forget(tmp_path, [1, 12]) == 8  # three books and the figures, of two sessions
    assert {path.name[0] for path in tmp_path.iterdir()} == {"2"}


def test_the_first_miss_alerts_the_person_and_stops_entries():
    told, commands = [], []
    bot = SimpleNamespace(_own_alert=told.append, _command=lambda name, args: commands.append((name, args)))
    miss = Miss("BTCUSDT", 1_700_000_100_000, "so_trail", 1.0, 2.0, 3)

    Bot._told_miss(bot, None)
    Bot._told_miss(bot, miss)

    assert [alert.level for alert in told] == ["critical"]
    assert "so_trail and 2 more was 1.0 when decided, computed again it is 2.0; entries stop" in told[0].text
    assert commands == [("stop_entries", {"reason": f"repaint: {miss}"})]
