"""The pushed side, through the real client's sockets over loopback: nothing is lost without a word, nothing comes twice."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.core.activity import Activity
from bot.core.errors import BotError
from bot.core.events import FeedLost, FeedRestored, Fill, Funding, KlineClosed, OrderUpdate, Quotes
from bot.execution.streams import Streams, StreamSettings
from bot.execution.tasks import Tasks
from tests.loopback import START_MS, Answer, ManualClock, bench, error

DATA = Path(__file__).parent / "data"
PUSHES = json.loads((DATA / "payloads_streams.json").read_text())
MARK = {**PUSHES["mark_price"], "s": "BTCUSDT"}
STEP = 180_000
BAR0 = START_MS // STEP * STEP  # the bar that is forming when a test begins
SYMBOLS = ("BTCUSDT", "ETHUSDT")
pytestmark = pytest.mark.wire


def kline(open_ms, symbol="BTCUSDT", *, closed=True, interval="3m", close="1.5"):
    step = {"3m": STEP, "15m": 5 * STEP}[interval]
    bar = {**PUSHES["kline_closed"]["k"], "t": open_ms, "T": open_ms + step - 1, "s": symbol, "i": interval, "x": closed,
           "o": "1", "h": "2", "l": "0.5", "c": close, "v": "10", "V": "4"}  # fmt: skip
    return {"e": "kline", "E": open_ms + (step + 40 if closed else 1), "s": symbol, "k": bar}


def rows(params, now_ms):
    start, end, limit = int(params["startTime"]), int(params["endTime"]), int(params["limit"])
    opens = [t for t in range(-(-start // STEP) * STEP, end + 1, STEP) if t < now_ms][:limit]
    return [[t, "1", "2", "0.5", "1.25", "10", t + STEP - 1, "0", 1, "4", "0", "0"] for t in opens]


class Market:
    """Streams on a scripted venue, and what they emitted."""

    def __init__(self, b, **kwargs) -> None:
        self.b, self.venue, self.clock = b, b.venue, b.clock
        self.events, self.errors, self.checked = [], [], []
        b.venue.default["GET", "klines"] = lambda p: rows(p, b.clock.now_ms())
        self.streams = Streams(
            b.manager, b.gateway, SYMBOLS, tasks=b.tasks, emit=self.events.append, on_error=self.errors.append,
            on_cross_check=self.checked.append,
            last_open_ms=kwargs.pop("last_open_ms", dict.fromkeys(SYMBOLS, BAR0 - STEP)),
            settings=StreamSettings(**kwargs),
        )  # fmt: skip

    @property
    def bars(self):
        return [
            ((e.kline.open_ms - BAR0) // STEP, e.kline.symbol[:3]) for e in self.events if isinstance(e, KlineClosed)
        ]

    @property
    def feeds(self):
        return [(type(e).__name__, e.stream) for e in self.events if isinstance(e, FeedLost | FeedRestored)]

    async def push(self, feed, *payloads):
        """Push frames when the time of the latest has come."""
        self.clock.leap(max((p["E"] for p in payloads if isinstance(p, dict)), default=0))
        await self.venue.push(feed, *payloads)
        await self.clock.settle()

    async def reconnected(self, feed, opened):
        """Let a new connection come up (on the clock as far as the bot waits, on the wire as far as it connects)."""
        for _ in range(200):
            await self.clock.advance(100)
            await asyncio.sleep(0.005)
            if len([u for u in self.venue.opened if f"/{feed}/" in u]) >= opened and self.venue.sockets[feed]:
                return
        raise AssertionError(f"no new {feed} socket")


@asynccontextmanager
async def market(**kwargs):
    kwargs = {"market_silence_ms": None, "public_silence_ms": None, "rotate_ms": None} | kwargs
    async with bench() as b:
        it = Market(b, **kwargs)
        try:
            await it.streams.start()
            await b.clock.settle()
            yield it
        finally:
            await it.streams.close()
        await b.clock.settle()
        assert b.activity.under_way == 0


# Subscriptions --------------------------------------------------------------------------------------------------------


async def test_each_stream_is_asked_for_on_its_own_path():
    async with market() as m:
        private, public, market_url = m.venue.opened

        assert private == "/private/ws?listenKey=key-1"
        assert public == "/public/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker"
        assert market_url == (
            "/market/stream?streams=btcusdt@kline_3m/btcusdt@kline_15m/ethusdt@kline_3m/ethusdt@kline_15m"
            "/btcusdt@markPrice@1s/ethusdt@markPrice@1s"
        )


async def test_frames_become_events_and_everything_that_is_written_is_counted_off():
    async with market() as m:
        await m.push(
            "market",
            kline(BAR0, closed=False),
            kline(BAR0),
            kline(BAR0 - 6 * STEP, interval="15m"),
            MARK,
        )
        await m.push("public", PUSHES["book_ticker"])
        await m.push("private", PUSHES["order_partly_filled"], PUSHES["trade_lite"])

        assert [type(e) for e in m.events] == [KlineClosed, Funding, Quotes, Fill, OrderUpdate]
        assert [bar.interval_ms for bar in m.checked] == [5 * STEP]
        assert m.b.activity.under_way == 0


async def test_the_bar_that_is_not_closed_yet_can_be_looked_at_and_decides_nothing():
    async with market() as m:
        broken = kline(BAR0, "ETHUSDT", closed=False)
        del broken["k"]["o"]
        await m.push("market", kline(BAR0, closed=False, close="1.25"), kline(BAR0, closed=False, close="1.75"))
        await m.push("market", kline(BAR0 - STEP, closed=False, interval="15m"), broken)

        forming = m.streams.forming()

        assert {symbol: (bar.open_ms, bar.close) for symbol, bar in forming.items()} == {"BTCUSDT": (BAR0, 1.75)}
        assert m.events == []


async def test_an_older_or_repeated_quote_is_dropped_and_funding_comes_once_a_minute_or_when_it_changes():
    async with market() as m:
        book, mark = PUSHES["book_ticker"], MARK
        await m.push("public", book, book, {**book, "u": book["u"] - 1}, {**book, "u": book["u"] + 1})
        await m.push("market", mark, {**mark, "E": mark["E"] + 1_000}, {**mark, "E": mark["E"] + 2_000, "r": "0.0002"})
        await m.push(
            "market", {**mark, "E": mark["E"] + 3_000, "r": "0.0002"}, {**mark, "E": mark["E"] + 62_000, "r": "0.0002"}
        )

        assert sum(isinstance(e, Quotes) for e in m.events) == 2
        assert sum(isinstance(e, Funding) for e in m.events) == 3


# Bars -----------------------------------------------------------------------------------------------------------------


async def test_repeated_and_older_bars_are_dropped():
    async with market() as m:
        await m.push("market", kline(BAR0), kline(BAR0), kline(BAR0 - STEP), kline(BAR0 + STEP), kline(BAR0))

        assert m.bars == [(0, "BTC"), (1, "BTC")]
        assert m.streams.bars.duplicates == 3


async def test_the_hole_between_history_and_the_first_frame_is_filled_before_start_returns():
    async with bench() as b:
        m = Market(b, last_open_ms={"BTCUSDT": BAR0 - 4 * STEP, "ETHUSDT": BAR0 - 2 * STEP})
        await m.streams.start()

        assert m.bars == [(-3, "BTC"), (-2, "BTC"), (-1, "ETH"), (-1, "BTC")]
        assert all(e.at_ms >= e.kline.close_ms for e in m.events)
        await m.streams.close()


async def test_a_bar_that_shows_a_hole_waits_until_the_hole_is_filled():
    async with market() as m:
        await m.clock.advance(4 * STEP)
        m.events.clear()
        m.streams.bars.last_open_ms.update(dict.fromkeys(SYMBOLS, BAR0 - STEP))

        await m.push("market", kline(BAR0 + 3 * STEP, close="1.9"))

        assert m.bars == [(i, s) for i in range(4) for s in ("ETH", "BTC")]
        assert m.feeds == [("FeedLost", "market"), ("FeedRestored", "market")]
        assert [type(e).__name__ for e in (m.events[0], m.events[-1])] == ["FeedLost", "FeedRestored"]
        assert m.events[-2].kline.close == 1.9  # the socket's bar wins over REST's


async def test_a_bar_whose_end_was_never_told_is_fetched_a_few_seconds_later():
    async with market(late_bar_ms=4_000) as m:
        await m.clock.advance(BAR0 + STEP + 3_900 - m.clock.now_ms())
        early = list(m.bars)
        await m.clock.advance(200)
        await m.push("market", kline(BAR0))

        assert early == []
        assert m.bars == [(0, "ETH"), (0, "BTC")]
        assert m.streams.bars.fetched == 2
        assert m.feeds == []


async def test_bars_are_asked_for_again_while_the_exchange_cannot_answer():
    async with market() as m:
        m.venue.will("GET", "klines", *[error(-1102, "bad")] * 3)

        await m.clock.advance(BAR0 + STEP + 60_000 - m.clock.now_ms())

        assert m.bars == [(0, "ETH"), (0, "BTC")]


# Loss and return ------------------------------------------------------------------------------------------------------


async def test_a_lost_market_socket_is_told_and_its_bars_are_read_before_anything_goes_on():
    async with market(late_bar_ms=10**9) as m:
        await m.push("market", kline(BAR0, "ETHUSDT"), kline(BAR0))
        await m.venue.cut("market")
        await m.reconnected("market", 2)
        lost = list(m.feeds)
        await m.clock.advance(BAR0 + 4 * STEP - m.clock.now_ms() + 100)
        m.events.clear()

        await m.push("market", kline(BAR0 + 3 * STEP), MARK)

        assert lost == [("FeedLost", "market")]
        assert m.bars == [(i, s) for i in (1, 2, 3) for s in ("ETH", "BTC")]
        assert m.feeds == [("FeedRestored", "market")]


async def test_bars_that_rest_tells_while_the_socket_is_lost_do_not_restore_it():
    async with market() as m:
        await m.venue.cut("market")
        await m.reconnected("market", 2)
        await m.clock.advance(BAR0 + STEP + 5_000 - m.clock.now_ms())

        assert m.bars == [(0, "ETH"), (0, "BTC")]
        assert m.feeds == [("FeedLost", "market")]
        assert m.streams.lost == ("market",)


async def test_a_lost_public_socket_is_restored_by_the_next_quote():
    async with market() as m:
        await m.venue.cut("public")
        await m.reconnected("public", 2)
        await m.push("public", PUSHES["book_ticker"])

        assert [type(e) for e in m.events] == [FeedLost, FeedRestored, Quotes]


async def test_a_lost_user_socket_is_restored_by_its_new_connection_with_the_key_that_holds_then():
    async with market() as m:
        m.venue.keys = 2
        await m.venue.cut("private")
        await m.reconnected("private", 2)
        await m.clock.settle()

        assert m.feeds == [("FeedLost", "user"), ("FeedRestored", "user")]
        assert m.venue.opened[-1] == "/private/ws?listenKey=key-2"


async def test_an_expired_listen_key_opens_a_new_socket_before_the_old_one_is_closed():
    async with market() as m:
        m.venue.keys = 2
        await m.push("private", {**PUSHES["listen_key_expired"], "E": START_MS})
        await m.reconnected("private", 2)
        await m.push("private", PUSHES["order_new"])

        assert m.feeds == [("FeedLost", "user"), ("FeedRestored", "user")]
        assert m.venue.opened[-1] == "/private/ws?listenKey=key-2"
        assert len(m.venue.sockets["private"]) == 1
        assert isinstance(m.events[-1], OrderUpdate)


async def test_a_listen_key_is_prolonged_on_the_clock_and_a_new_one_reconnects():
    async with market() as m:
        await m.clock.advance(299_000)
        before = len(m.venue.sent("PUT", "listenKey"))
        await m.clock.advance(2_000)
        after = len(m.venue.sent("PUT", "listenKey"))
        m.venue.keys = 2
        await m.clock.advance(300_000)
        await m.reconnected("private", 2)
        await m.clock.settle()

        assert (before, after) == (0, 1)
        assert ("FeedLost", "user") in m.feeds
        assert ("FeedRestored", "user") in m.feeds


async def test_silence_is_loss_and_a_new_socket_is_tried_until_data_come():
    async with market(market_silence_ms=10_000) as m:
        await m.push("market", MARK)
        await m.clock.advance(9_000)
        await m.push("market", MARK)
        await m.clock.advance(9_000)
        early = list(m.feeds)
        await m.clock.advance(7_000)
        await m.reconnected("market", 2)
        lost = list(m.feeds)
        await m.push("market", MARK)

        assert early == []
        assert lost == [("FeedLost", "market")]
        assert m.feeds == [("FeedLost", "market"), ("FeedRestored", "market")]


async def test_sockets_are_replaced_before_their_day_is_over_without_a_loss():
    async with market(rotate_ms=23 * 3_600_000, late_bar_ms=10**9) as m:
        await m.clock.advance(23 * 3_600_000 + 10)
        await m.reconnected("market", 2)
        await m.push("market", MARK)

        assert m.feeds == []
        assert {feed: len(sockets) for feed, sockets in m.venue.sockets.items()} == {
            "private": 1,
            "public": 1,
            "market": 1,
        }


async def test_frames_that_arrived_before_a_close_are_delivered():
    async with market() as m:
        bars = [kline(BAR0 + i * STEP) for i in range(50)]
        m.clock.leap(bars[-1]["E"])
        for bar in bars:
            await m.venue.push("market", bar)
        await m.venue.cut("market")
        await m.reconnected("market", 2)

        assert [i for i, s in m.bars if s == "BTC"][:50] == list(range(50))


async def test_a_frame_that_cannot_be_read_is_told_and_the_socket_lives_on():
    async with market() as m:
        await m.push("market", b"no json", b"[]", {"e": "kline", "E": 1})
        await m.push("market", kline(BAR0))

        assert len(m.errors) == 2  # once for each kind
        assert m.bars == [(0, "BTC")]
        assert m.feeds == []


async def test_a_venue_that_is_not_there_is_one_sentence():
    async with bench() as b:
        m = Market(b)
        await b.venue.close()

        with pytest.raises(BotError, match="cannot open the user stream"):
            await m.streams.start()

        await m.streams.close()
        await b.venue.listen()


async def test_closing_takes_no_time_even_while_reconnecting(caplog):
    async with market() as m:
        m.venue.default["POST", "listenKey"] = Answer(status=503, text="<html/>")
        await m.venue.cut("private")
        await m.clock.advance(1_000)
        loop = asyncio.get_running_loop()

        begun = loop.time()
        await m.streams.close()
        took = loop.time() - begun
        await asyncio.sleep(0)

        assert took < 2.5
        assert m.b.tasks.running == 0
    assert "does not end" not in caplog.text


async def test_ten_thousand_frames_at_once_are_neither_lost_nor_reordered(caplog):
    caplog.set_level(logging.WARNING)
    async with market() as m:
        book = PUSHES["book_ticker"]
        await m.venue.push("public", *({**book, "u": book["u"] + i, "E": i} for i in range(10_000)))
        await m.clock.settle()

        assert [e.at_ms for e in m.events] == list(range(10_000))


# Waiting and counting -------------------------------------------------------------------------------------------------


async def test_a_wait_counts_from_its_end_until_the_waiting_code_goes_on():
    clock = ManualClock(activity := Activity())
    tasks = Tasks(clock, activity=activity)
    seen = []

    async def work():
        seen.append(activity.under_way)
        await tasks.sleep(100)
        seen.append(activity.under_way)

    tasks.spawn(work())
    started = activity.under_way
    await clock.settle()
    asleep = activity.under_way
    await clock.advance(100)

    assert (started, seen, asleep, activity.under_way) == (1, [0, 0], 0, 0)
    assert tasks.running == 0


async def test_a_connection_that_the_exchange_closes_counts_until_its_loss_has_been_told():
    async with market() as m:
        quiet_before = m.b.activity.quiet
        await m.venue.cut("market")
        told_already = bool(m.feeds)
        counted = m.b.activity.under_way
        await m.clock.settle()

        assert quiet_before
        assert told_already or counted > 0
        assert m.feeds == [("FeedLost", "market")]
        assert m.b.activity.under_way == 0


async def test_tasks_that_are_cancelled_at_any_point_leave_no_count_behind():
    clock = ManualClock(activity := Activity())
    tasks = Tasks(clock, activity=activity)
    latch = tasks.latch()

    async def waiting():
        await latch.wait(1_000)

    async def both():
        await tasks.together(waiting(), waiting())

    tasks.spawn(waiting())
    tasks.spawn(both())
    await asyncio.sleep(0)
    tasks.spawn(waiting())  # cancelled before its first step
    latch.set()  # woken, and cancelled before going on
    await tasks.close()
    await asyncio.sleep(0)

    assert activity.under_way == 0
    assert clock.pending == 0


async def test_together_raises_the_first_error_after_all_have_ended_and_counts_stay_even():
    clock = ManualClock(activity := Activity())
    tasks = Tasks(clock, activity=activity)
    ended = []

    async def fail():
        raise ValueError("one")

    async def slow():
        await tasks.sleep(10)
        ended.append(True)

    running = asyncio.create_task(tasks.together(fail(), slow()))
    await clock.advance(10)

    with pytest.raises(ValueError, match="one"):
        await running
    assert (ended, activity.under_way) == ([True], 0)


async def test_a_task_that_fails_is_told():
    clock = ManualClock(activity := Activity())
    errors = []
    tasks = Tasks(clock, activity=activity, on_error=lambda name, error: errors.append(error))

    async def fail():
        raise ValueError("one")

    tasks.spawn(fail())
    await clock.settle()

    assert [str(e) for e in errors] == ["one"]
