"""Supervised sockets: opened, watched and replaced; loss and recovery are reported as events.

A subscription on the wrong path is accepted and stays silent, and a connection can be half dead: only data prove that a feed is
alive. Each feed has to deliver within its silence limit, and each stream on it within a longer one of its own, else `FeedLost`
is emitted and the socket reopened. The user feed may legitimately be silent: the reconciler reports (`distrust`) when it has
missed something.

A frame that does not fit its model (`models_push.py`) is rejected: counted by kind, reported once, and without consequence for
the feed, which has to deliver others to count as alive. Only on the user feed may it have hidden a fill, so the account is then
reconciled as after a loss.

A socket is replaced by opening the new one first; what the old one still holds is delivered, and consumers recognise
duplicates. This is also done before the exchange's 24-hour limit. Failed attempts back off, and are logged at the first, second,
fourth, eighth ... failure.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bot.core.clock import Cancellable
from bot.core.errors import BotError, WireError
from bot.core.events import Event, FeedLost, FeedRestored
from bot.core.redact import redact
from bot.execution.models import Untimely
from bot.execution.outcomes import describe
from bot.execution.refusals import Refusals
from bot.execution.sockets import ENDED, RECONNECTED, UNREADABLE, Frame, HardenedSocket, Note, SocketFactory
from bot.execution.stamps import Lag
from bot.execution.tasks import Tasks

log = logging.getLogger(__name__)

MARKET, PUBLIC, USER = "market", "public", "user"
DOUBT_PAUSES_MS = (1_000, 60_000)  # shortest and longest pause between two reconciliations
REOPEN_MS = (0, 1_000, 2_000, 5_000, 10_000, 30_000)


class Stream:
    """One stream of a feed: frames received, when the last one came, and how late."""

    __slots__ = ("frames", "heard_ms", "lag", "silent")

    def __init__(self) -> None:
        self.frames = 0
        self.heard_ms = 0  # last frame, on our clock; 0 before the first one
        self.silent = 0  # consecutive checks without a new frame
        self.lag = Lag()


class Feed:
    """One socket and its state.

    Parameters
    ----------
    name
        `MARKET`, `PUBLIC` or `USER`.
    factory
        Makes a new socket.
    silence_ms
        How long the feed may be silent; None if it is not watched.
    streams
        Names of its streams.
    """

    def __init__(
        self, name: str, factory: SocketFactory, *, silence_ms: int | None, streams: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.factory = factory
        self.silence_ms = silence_ms
        self.streams = {stream: Stream() for stream in streams}
        self.socket: HardenedSocket | None = None
        self.frames = 0
        self.since_ms = 0  # when the current socket was opened
        self.lost = False
        self.reopening = False
        self.reopened = 0
        self.timers: dict[str, Cancellable] = {}
        self.doubted_ms = 0  # when an unreadable frame last led to a reconciliation
        self.doubt_pause_ms = DOUBT_PAUSES_MS[0]

    def cancel(self) -> None:
        """Cancel all timers of this feed."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()


class Feeds:
    """Keeps feeds alive.

    Parameters
    ----------
    tasks
        Clock, waiting and counting.
    emit
        Receives `FeedLost`, `FeedRestored` and the events that a subclass makes of frames.
    stream_silence_ms
        How long one stream of a watched feed may be silent while the others deliver.
    rotate_ms
        Age at which a socket is replaced; None for never.
    on_error
        Called with a rejected kind of frame at its first, tenth, hundredth ... occurrence.
    """

    def __init__(
        self,
        tasks: Tasks,
        emit: Callable[[Event], None],
        *,
        stream_silence_ms: int | None,
        rotate_ms: int | None,
        on_error: Callable[[WireError], None] | None = None,
    ) -> None:
        self.feeds: dict[str, Feed] = {}
        self._tasks = tasks
        self._emit = emit
        self._stream_silence_ms = stream_silence_ms
        self._rotate_ms = rotate_ms
        self._on_error = on_error
        self._closing = False
        self.refused = Refusals()  # by feed and kind of frame
        self._consumers: set[asyncio.Task[None]] = set()

    # Life cycle --------------------------------------------------------------------------------------------------------

    async def open_all(self) -> None:
        """Open every socket, the last feed first.

        Raises
        ------
        BotError
            One does not open.
        """
        for feed in reversed(self.feeds.values()):
            feed.socket = await self._open(feed)
            self._start_consumer(feed, feed.socket)

    def watch_all(self) -> None:
        """Start watching for silence and age."""
        for feed in self.feeds.values():
            self._watch(feed, feed.frames, False)
            self._watch_streams(feed, {name: s.frames for name, s in feed.streams.items()})
            self._plan_rotation(feed)

    async def close(self) -> None:
        """Close all sockets at once."""
        self._closing = True
        for feed in self.feeds.values():
            feed.cancel()
        await self._tasks.together(*(f.socket.close() for f in self.feeds.values() if f.socket is not None))
        if self._consumers:
            await asyncio.wait(set(self._consumers), timeout=1)

    @property
    def lost(self) -> tuple[str, ...]:
        """The feeds that do not deliver now."""
        return tuple(feed.name for feed in self.feeds.values() if feed.lost)

    def distrust(self, name: str, reason: str) -> None:
        """Treat a feed as lost because another component says so, and reopen it."""
        feed = self.feeds[name]
        self._lose(feed, reason)
        self._reopen(feed)

    async def _open(self, feed: Feed) -> HardenedSocket:
        socket = feed.factory()
        try:
            await socket.connect()
        except Exception as error:
            raise BotError(f"cannot open the {feed.name} stream: {describe(error)}") from error
        feed.since_ms = self._tasks.clock.now_ms()
        return socket

    def _start_consumer(self, feed: Feed, socket: HardenedSocket) -> None:
        task = self._tasks.spawn(self._consume(feed, socket), name=f"{feed.name} stream")
        self._consumers.add(task)
        task.add_done_callback(self._consumers.discard)

    async def _consume(self, feed: Feed, socket: HardenedSocket) -> None:
        """Consume frames and notes from one socket until it ends."""
        while True:
            message = await socket.recv()
            note = str(message.get("e")) if isinstance(message, Note) else ""
            try:
                if note:
                    self._on_note(feed, socket, note, str(message.get("m", "")))
                else:
                    self._on_frame(feed, message)
            except WireError as error:
                self._refuse(feed, message, error)
            except Exception as error:  # our own bug must not end the stream, whatever frame exposed it
                self._tasks.report(f"{feed.name} stream", error)
                self._refuse(feed, message, WireError(f"{type(error).__name__}: {error}"))
            finally:
                self._tasks.activity.end()
            if note == ENDED:
                return

    # Refusals ----------------------------------------------------------------------------------------------------------

    def _refuse(self, feed: Feed, frame: Frame, error: WireError) -> None:
        """Count a frame that does not fit and report its kind once; on the user stream it may have hidden a fill."""
        kind = self._kind(frame)
        if count := self.refused.take(f"{feed.name} {kind}"):
            often = f" ({count} by now)" if count > 1 else ""
            refusal = WireError(redact(f"a {kind} of the {feed.name} stream is refused{often}: {error}"))
            log.warning("%s", refusal)
            if self._on_error is not None:
                self._on_error(refusal)
        if isinstance(error, Untimely):
            self._on_untimely()
        if feed.name == USER:
            self._doubt(feed)

    def _doubt(self, feed: Feed) -> None:
        """Have the account reconciled: at once, then with growing pauses while unreadable frames continue."""
        if feed.lost or self._closing or "doubt" in feed.timers:
            return
        clock = self._tasks.clock
        since_ms = clock.now_ms() - feed.doubted_ms
        if since_ms < feed.doubt_pause_ms:

            def again() -> None:
                del feed.timers["doubt"]
                self._doubt(feed)

            feed.timers["doubt"] = clock.call_later(feed.doubt_pause_ms - since_ms, again)
            return
        quiet = since_ms > DOUBT_PAUSES_MS[-1]
        feed.doubt_pause_ms = DOUBT_PAUSES_MS[0] if quiet else min(2 * feed.doubt_pause_ms, DOUBT_PAUSES_MS[-1])
        feed.doubted_ms = clock.now_ms()
        self._lose(feed, "it sent what cannot be read")
        self._restore(feed)

    # Hooks for subclasses ----------------------------------------------------------------------------------------------

    def _on_frame(self, feed: Feed, frame: Frame) -> None:
        """Handle one frame."""
        raise NotImplementedError

    def _kind(self, frame: Frame) -> str:
        """Return the kind of a rejected frame, one of a few."""
        return "frame"

    def _on_untimely(self) -> None:
        """Handle a frame with a timestamp that the exchange's clock cannot have reached."""

    def _interrupted(self, feed: Feed) -> None:
        """Handle a possible gap in a feed's frames."""

    # Loss and recovery -------------------------------------------------------------------------------------------------

    def _on_note(self, feed: Feed, socket: HardenedSocket, kind: str, text: str) -> None:
        if self._closing or socket is not feed.socket:
            return
        if kind == UNREADABLE:
            raise WireError(f"it is no JSON object: {text}")
        if kind == RECONNECTED:
            feed.since_ms = self._tasks.clock.now_ms()
            self._interrupted(feed)
            if feed.name == USER:
                self._lose(feed, "reconnected")
                self._restore(feed)
            return
        self._interrupted(feed)
        self._lose(feed, text or "the socket's reader ended")
        if kind == ENDED:
            self._reopen(feed)

    def _lose(self, feed: Feed, reason: str, *, at_ms: int = 0) -> None:
        if not feed.lost:
            feed.lost = True
            log.warning("%s stream lost: %s", feed.name, reason)
            self._emit(FeedLost(max(at_ms, self._tasks.clock.now_ms()), feed.name, reason))

    def _restore(self, feed: Feed) -> None:
        if feed.lost:
            feed.lost = False
            log.info("%s stream restored", feed.name)
            self._emit(FeedRestored(self._tasks.clock.now_ms(), feed.name))

    def _reopen(self, feed: Feed) -> None:
        if not feed.reopening and not self._closing:
            feed.reopening = True
            self._tasks.spawn(self._replace(feed), name=f"reopen {feed.name}")

    async def _replace(self, feed: Feed) -> None:
        """Open a new socket, then close the old one."""
        try:
            socket = await self._open_patiently(feed)
            if socket is None:
                return
            old, feed.socket = feed.socket, socket
            feed.reopened += 1
            self._start_consumer(feed, socket)
            if old is not None:
                await old.close()
        finally:
            feed.reopening = False
        if feed.name == USER:
            self._restore(feed)
        self._plan_rotation(feed)

    async def _open_patiently(self, feed: Feed) -> HardenedSocket | None:
        """Open a feed's socket, retrying until it succeeds; None when closing."""
        tries = 0
        while not self._closing:
            await self._tasks.sleep(REOPEN_MS[min(tries, len(REOPEN_MS) - 1)])
            tries += 1
            try:
                return await self._open(feed)
            except BotError as error:
                if tries & (tries - 1) == 0:
                    pause = REOPEN_MS[min(tries, len(REOPEN_MS) - 1)] / 1000
                    log.warning("%s (attempt %s, the next one in %g s)", error, tries, pause)
        return None

    # Silence and age ---------------------------------------------------------------------------------------------------

    def _watch(self, feed: Feed, frames: int, silent: bool) -> None:
        """Check twice per silence limit whether anything came; silent twice in a row means lost."""
        if feed.silence_ms is None or self._closing:
            return

        def look() -> None:
            quiet_now = feed.frames == frames
            if quiet_now and silent:
                self._lose(feed, f"silent for {feed.silence_ms} ms")
                self._reopen(feed)
            self._watch(feed, feed.frames, quiet_now and not silent)

        feed.timers["silence"] = self._tasks.clock.call_later(feed.silence_ms / 2, look)

    def _watch_streams(self, feed: Feed, frames: Mapping[str, int]) -> None:
        """Check each stream of a feed twice per limit: one that is silent while the socket is alive is lost too."""
        limit_ms = self._stream_silence_ms
        if feed.silence_ms is None or limit_ms is None or self._closing:
            return

        def look() -> None:
            silent = []
            for name, stream in feed.streams.items():
                stream.silent = stream.silent + 1 if stream.frames == frames[name] else 0
                if stream.silent >= 2:
                    silent.append(name)
                    stream.silent = 0
            if silent and not feed.lost:
                self._lose(feed, f"{', '.join(silent)} silent for {limit_ms} ms")
                self._reopen(feed)
            self._watch_streams(feed, {name: s.frames for name, s in feed.streams.items()})

        feed.timers["streams"] = self._tasks.clock.call_later(limit_ms / 2, look)

    def _plan_rotation(self, feed: Feed) -> None:
        old = feed.timers.pop("rotation", None)
        if old is not None:
            old.cancel()
        if self._rotate_ms is not None and not self._closing:
            feed.timers["rotation"] = self._tasks.clock.call_later(self._rotate_ms, lambda: self._reopen(feed))

    def view(self) -> dict[str, Any]:
        """Return the state of every stream, for terminal and page."""
        now = self._tasks.clock.now_ms()
        return {
            feed.name: {
                "lost": feed.lost,
                "refused": sum(n for kind, n in self.refused.counts.items() if kind.startswith(f"{feed.name} ")),
                "reopened": feed.reopened + (feed.socket.reconnections if feed.socket is not None else 0),
                "streams": {
                    name: {**stream.lag.summary(), "age_ms": now - stream.heard_ms if stream.heard_ms else None}
                    for name, stream in feed.streams.items()
                },
            }
            for feed in self.feeds.values()
        }
