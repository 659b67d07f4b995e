"""What the exchange pushes: three supervised sockets whose silence, loss and return are events, never surprises.

| feed | brings | when it is lost |
|---|---|---|
| market | closed bars, mark price and funding | missing bars are read over REST before anything goes on |
| public | best bid and ask | the next quote restores it |
| user | orders, fills, wallet, positions | restored by a new connection; the app then compares with the venue |

A subscription on the wrong path is accepted and stays silent, and a connection can be half dead: only data prove that a feed
lives. The market and public feeds have to deliver within their silence limit, else `FeedLost`, and the socket is opened
anew. The user feed may rightly be silent; the app's regular comparison with the venue watches over it.

A socket is replaced by opening the new one first; what the old one still holds is delivered, and repetitions are recognised (bars
by their time, quotes by their number, fills and orders by the engine). That is also done before the exchange's 24 hours are over.

For the counting of frames see `tasks.py`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.core.clock import Cancellable
from bot.core.errors import BotError, WireError
from bot.core.events import Event, FeedLost, FeedRestored, Funding, Quotes
from bot.core.types import Kline
from bot.execution import wire
from bot.execution.bars import Bars
from bot.execution.client import HardenedBSM
from bot.execution.clock import WallClock
from bot.execution.gateway import Gateway
from bot.execution.outcomes import describe
from bot.execution.sockets import ENDED, NOTES, RECONNECTED, UNREADABLE, HardenedSocket, SocketFactory
from bot.execution.tasks import Tasks

log = logging.getLogger(__name__)

MARKET, PUBLIC, USER = "market", "public", "user"
REOPEN_MS = (0, 1_000, 2_000, 5_000, 10_000, 30_000)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What is subscribed to, and how long it may be silent (ms of the clock; None: not watched).

    The defaults fit Binance, where the mark price comes every second. A market that moves in steps of replayed bars needs
    limits longer than its longest step.
    """

    base_interval: str = "3m"
    check_interval: str | None = "15m"
    market_silence_ms: int | None = 10_000
    public_silence_ms: int | None = 10_000
    late_bar_ms: int = 4_000
    funding_every_ms: int = 60_000
    rotate_ms: int | None = 23 * 3_600_000
    private: bool = True


class _Feed:
    """One socket and how it stands."""

    __slots__ = ("factory", "frames", "lost", "name", "reopening", "rotation", "silence_ms", "socket", "watch")

    def __init__(self, name: str, factory: SocketFactory, silence_ms: int | None) -> None:
        self.name = name
        self.factory = factory
        self.silence_ms = silence_ms
        self.socket: HardenedSocket | None = None
        self.frames = 0
        self.lost = False
        self.reopening = False
        self.watch: Cancellable | None = None
        self.rotation: Cancellable | None = None


class Streams:
    """The exchange's pushes as events.

    Parameters
    ----------
    manager
        Makes the sockets.
    gateway
        Reads missing bars; knows fees and funding intervals.
    symbols
        The first is the one whose bars decide; its bar of an instant comes last.
    tasks
        Clock, waiting and counting.
    emit
        Takes every event.
    last_open_ms
        Open time of the last bar of history of each symbol: `start` fills the hole between it and now.
    on_cross_check
        Takes each closed bar of the check interval.
    on_error
        Takes what could not be read (`WireError`): stop trading, keep the stops.
    """

    def __init__(
        self,
        manager: HardenedBSM,
        gateway: Gateway,
        symbols: Sequence[str],
        *,
        tasks: Tasks,
        emit: Callable[[Event], None],
        settings: StreamSettings | None = None,
        last_open_ms: Mapping[str, int] | None = None,
        on_cross_check: Callable[[Kline], None] | None = None,
        on_error: Callable[[WireError], None] | None = None,
    ) -> None:
        self.settings = settings = settings or StreamSettings()
        self.symbols = tuple(symbols)
        self._tasks = tasks
        self._gateway = gateway
        self._emit = emit
        self._on_cross_check = on_cross_check
        self._on_error = on_error
        self._closing = False
        self._consumers: set[asyncio.Task[None]] = set()
        self._market_delivers = False
        self._book_ids: dict[str, int] = {}
        self._funding: dict[str, Funding] = {}
        self.bars = Bars(
            symbols,
            settings.base_interval,
            tasks=tasks,
            read=gateway.klines,
            emit=emit,
            last_open_ms=last_open_ms or {},
            late_ms=settings.late_bar_ms,
            on_gap=self._bar_missing,
            on_filled=self._bars_filled,
        )
        names = [symbol.lower() for symbol in symbols]
        intervals = [i for i in (settings.base_interval, settings.check_interval) if i is not None]
        market = [f"{name}@kline_{interval}" for name in names for interval in intervals]
        market += [f"{name}@markPrice@1s" for name in names]
        book = [f"{name}@bookTicker" for name in names]
        self._feeds = {
            MARKET: _Feed(
                MARKET,
                lambda: manager.futures_multiplex_socket(market, category="market"),
                settings.market_silence_ms,
            ),
            PUBLIC: _Feed(
                PUBLIC, lambda: manager.futures_multiplex_socket(book, category="public"), settings.public_silence_ms
            ),
        }
        if settings.private:
            self._feeds[USER] = _Feed(USER, manager.futures_user_socket, None)

    # Life --------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open all sockets, fill the hole after history, and return; raises `BotError` when one does not open."""
        for feed in reversed(self._feeds.values()):  # user first: nothing that happens from now on is missed
            feed.socket = await self._open(feed)
            self._start_consumer(feed, feed.socket)
        await self.bars.fill_now()
        self.bars.arm()
        for feed in self._feeds.values():
            self._watch(feed, feed.frames, False)
            self._plan_rotation(feed)

    async def close(self) -> None:
        """Close all sockets at once."""
        self._closing = True
        self.bars.close()
        for feed in self._feeds.values():
            for timer in (feed.watch, feed.rotation):
                if timer is not None:
                    timer.cancel()
        await self._tasks.together(*(f.socket.close() for f in self._feeds.values() if f.socket is not None))
        if self._consumers:
            await asyncio.wait(set(self._consumers), timeout=1)

    @property
    def lost(self) -> tuple[str, ...]:
        """The feeds that do not deliver now."""
        return tuple(feed.name for feed in self._feeds.values() if feed.lost)

    async def _open(self, feed: _Feed) -> HardenedSocket:
        socket = feed.factory()
        try:
            await socket.connect()
        except Exception as error:
            raise BotError(f"cannot open the {feed.name} stream: {describe(error)}") from error
        return socket

    def _start_consumer(self, feed: _Feed, socket: HardenedSocket) -> None:
        task = self._tasks.spawn(self._consume(feed, socket), name=f"{feed.name} stream")
        self._consumers.add(task)
        task.add_done_callback(self._consumers.discard)

    async def _consume(self, feed: _Feed, socket: HardenedSocket) -> None:
        """Take frames and notes off one socket until it ends."""
        while True:
            message = await socket.recv()
            kind = message.get("e")
            try:
                if kind in NOTES:
                    self._on_note(feed, socket, kind, str(message.get("m", "")))
                else:
                    self._on_frame(feed, message)
            except WireError as error:
                log.error("%s", error)
                if self._on_error is not None:
                    self._on_error(error)
            finally:
                self._tasks.activity.end()
            if kind == ENDED:
                return

    # Frames ------------------------------------------------------------------------------------------------------------

    def _on_frame(self, feed: _Feed, frame: Mapping[str, Any]) -> None:
        payload: wire.Payload = frame["data"] if "stream" in frame and "data" in frame else frame
        feed.frames += 1
        clock = self._tasks.clock
        if isinstance(clock, WallClock) and isinstance(told_ms := payload.get("E"), int):
            clock.observe(told_ms)
        if feed.lost and feed.name != USER:
            self._delivers_again(feed)
        if payload.get("e") == "kline":
            self._on_kline(payload)
            return
        events = wire.events_of(payload, rates=self._gateway.fee_rates, funding_hours=self._gateway.funding_hours)
        for event in events:
            if isinstance(event, Quotes):
                self._on_quotes(event, payload)
            elif isinstance(event, Funding):
                self._on_funding(event)
            elif isinstance(event, FeedLost):
                self._lose(feed, event.reason, at_ms=event.at_ms)
                self._reopen(feed)
            else:
                self._emit(event)

    def _on_kline(self, payload: wire.Payload) -> None:
        event = wire.kline_closed(payload)
        if event is None:
            return
        if event.kline.interval_ms == self.bars.step_ms:
            self.bars.push(event)
        elif self._on_cross_check is not None:
            self._on_cross_check(event.kline)

    def _on_quotes(self, event: Quotes, payload: wire.Payload) -> None:
        symbol, number = event.quotes[0][0], wire.integer(payload, "u")
        if number > self._book_ids.get(symbol, -1):
            self._book_ids[symbol] = number
            self._emit(event)

    def _on_funding(self, event: Funding) -> None:
        """Let a mark price through when its funding has changed, else once a minute: it comes every second."""
        told = self._funding.get(event.symbol)
        if (
            told is None
            or (told.rate, told.next_funding_ms) != (event.rate, event.next_funding_ms)
            or event.at_ms - told.at_ms >= self.settings.funding_every_ms
        ):
            self._funding[event.symbol] = event
            self._emit(event)

    # Loss and return ---------------------------------------------------------------------------------------------------

    def _on_note(self, feed: _Feed, socket: HardenedSocket, kind: str, text: str) -> None:
        if self._closing or socket is not feed.socket:
            return
        if kind == UNREADABLE:
            raise WireError(f"the {feed.name} stream sent a frame that is no JSON object: {text}")
        if kind == RECONNECTED:
            if feed.name == USER:
                self._lose(feed, "reconnected")
                self._restore(feed)
            return
        self._lose(feed, text or "the socket's reader ended")
        if kind == ENDED:
            self._reopen(feed)

    def _lose(self, feed: _Feed, reason: str, *, at_ms: int = 0) -> None:
        if not feed.lost:
            feed.lost = True
            log.warning("%s stream lost: %s", feed.name, reason)
            self._emit(FeedLost(max(at_ms, self._tasks.clock.now_ms()), feed.name, reason))

    def _restore(self, feed: _Feed) -> None:
        if feed.lost:
            feed.lost = False
            log.info("%s stream restored", feed.name)
            self._emit(FeedRestored(self._tasks.clock.now_ms(), feed.name))

    def _delivers_again(self, feed: _Feed) -> None:
        if feed.name == MARKET:
            self._market_delivers = True
            self.bars.fill()
        else:
            self._restore(feed)

    def _bar_missing(self, reason: str) -> None:
        self._lose(self._feeds[MARKET], reason)
        self._market_delivers = True

    def _bars_filled(self) -> None:
        """Restore the market feed, if it was its data that started the filling and not a bar's lateness."""
        if self._market_delivers:
            self._market_delivers = False
            self._restore(self._feeds[MARKET])

    def _reopen(self, feed: _Feed) -> None:
        if not feed.reopening and not self._closing:
            feed.reopening = True
            self._tasks.spawn(self._replace(feed), name=f"reopen {feed.name}")

    async def _replace(self, feed: _Feed) -> None:
        """Open a new socket, then close the old one."""
        try:
            socket = await self._open_patiently(feed)
            if socket is None:
                return
            old, feed.socket = feed.socket, socket
            self._start_consumer(feed, socket)
            if old is not None:
                await old.close()
        finally:
            feed.reopening = False
        if feed.name == USER:
            self._restore(feed)
        self._plan_rotation(feed)

    async def _open_patiently(self, feed: _Feed) -> HardenedSocket | None:
        """Open a feed's socket, trying for as long as it takes; None when we are closing."""
        tries = 0
        while not self._closing:
            await self._tasks.sleep(REOPEN_MS[min(tries, len(REOPEN_MS) - 1)])
            tries += 1
            try:
                return await self._open(feed)
            except BotError as error:
                log.warning("%s", error)
        return None

    def _watch(self, feed: _Feed, frames: int, silent: bool) -> None:
        """Look twice per silence limit whether anything came; silent twice in a row is lost."""
        if feed.silence_ms is None or self._closing:
            return

        def look() -> None:
            quiet_now = feed.frames == frames
            if quiet_now and silent:
                self._lose(feed, f"silent for {feed.silence_ms} ms")
                self._reopen(feed)
            self._watch(feed, feed.frames, quiet_now and not silent)

        feed.watch = self._tasks.clock.call_later(feed.silence_ms / 2, look)

    def _plan_rotation(self, feed: _Feed) -> None:
        if feed.rotation is not None:
            feed.rotation.cancel()
        if self.settings.rotate_ms is not None and not self._closing:
            feed.rotation = self._tasks.clock.call_later(self.settings.rotate_ms, lambda: self._reopen(feed))
