"""The exchange's pushes as events, from three supervised sockets whose silence, loss and recovery are handled.

| feed | delivers | when it is lost |
|---|---|---|
| market | closed bars, mark price and funding, trades for early bars | missing bars are read over REST before anything goes on |
| public | best bid and ask | the next quote restores it |
| user | orders, fills, wallet, positions | restored by a new connection; the app then reconciles with the venue |

`feeds.py` keeps sockets alive and handles frames that do not fit, `bars.py` puts bars in order, `trades.py` builds early bars.
Duplicates are recognised: bars by their time, quotes by their number, fills and orders by the engine. Each stream's lag is
measured from the exchange's event time to the receipt, that of a closed bar from its close.

For the counting of frames see `tasks.py`.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bot.core.errors import WireError
from bot.core.events import AccountSnapshot, Event, FeedLost, Fill, Funding, KlineClosed
from bot.core.times import HOUR_MS
from bot.core.types import Kline
from bot.execution import wire
from bot.execution.bars import LiveBars
from bot.execution.client import HardenedBSM
from bot.execution.clock import WallClock, latest_ms
from bot.execution.feeds import MARKET, PUBLIC, USER, Feed, Feeds
from bot.execution.gateway import Gateway
from bot.execution.models import shortened
from bot.execution.models_push import AggTradePush, BookTickerPush, KlinePush, MarketPush, MarkPricePush
from bot.execution.sockets import Frame
from bot.execution.stamps import Decisions, Lag
from bot.execution.tasks import Tasks
from bot.execution.trades import TradeBars

__all__ = ["MARKET", "PUBLIC", "USER", "StreamSettings", "Streams"]
MARKET_KINDS: Final = frozenset({"kline", "bookTicker", "markPriceUpdate", "aggTrade"})
ACCOUNT_KINDS: Final = frozenset(
    {
        "ORDER_TRADE_UPDATE",
        "ACCOUNT_UPDATE",
        "ALGO_UPDATE",
        "ACCOUNT_CONFIG_UPDATE",
        "MARGIN_CALL",
        "listenKeyExpired",
    }
)
SEEN_FILLS = 4_096
DEAF_AFTER_MS = 3_000  # a fill that the user stream has not delivered by then was missed


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The subscriptions, and how long they may be silent (ms of the clock; None: not watched).

    The defaults fit Binance, where the mark price comes every second. A market that advances in steps of replayed bars needs
    limits longer than its longest step. A single stream may be silent `stream_silence` times as long as its feed.
    """

    base_interval: str = "3m"
    check_interval: str | None = "15m"
    market_silence_ms: int | None = 10_000
    public_silence_ms: int | None = 10_000
    stream_silence: int = 6
    late_bar_ms: int = 4_000
    funding_every_ms: int = 60_000
    rotate_ms: int | None = 23 * HOUR_MS
    private: bool = True
    early: bool = False  # bars are also built from trades and closed by the clock


class Streams(Feeds):
    """Turns the exchange's pushes into events.

    Parameters
    ----------
    manager
        Makes the sockets.
    gateway
        Reads missing bars; knows fees and funding intervals.
    symbols
        The first is traded; of the bars with the same open time, its bar comes last.
    tasks
        Clock, waiting and counting.
    emit
        Receives every event.
    last_open_ms
        Open time of the last bar of history of each symbol: `start` fills the gap between it and now.
    on_cross_check
        Called with each closed bar of the check interval.
    on_error
        Called with a rejected kind of frame at its first, tenth, hundredth ... occurrence.
    decisions
        Notified when the frame of each closed bar was read.
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
        decisions: Decisions | None = None,
    ) -> None:
        self.settings = settings = settings or StreamSettings()
        watched = settings.market_silence_ms
        super().__init__(
            tasks,
            emit,
            stream_silence_ms=None if watched is None else watched * settings.stream_silence,
            rotate_ms=settings.rotate_ms,
            on_error=on_error,
        )
        self.symbols = tuple(symbols)
        self._gateway = gateway
        self._on_cross_check = on_cross_check
        self._decisions = decisions
        self._market_delivers = False
        self._book_ids: dict[str, int] = {}
        self._funding: dict[str, Funding] = {}
        self._seen: set[tuple[str, int]] = set()
        self._seen_order: deque[tuple[str, int]] = deque()
        self.close_lag = {symbol: Lag() for symbol in symbols}  # of closed bars, from their close
        self._forming: dict[str, Kline] = {}  # the unfinished bar of each symbol
        self._closed: dict[tuple[str, int], Kline] = {}  # the newest closed bar by symbol and interval
        self.bars = LiveBars(
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
        self.trade_bars: TradeBars | None = None
        names = [symbol.lower() for symbol in symbols]
        intervals = [i for i in (settings.base_interval, settings.check_interval) if i is not None]
        market = [f"{name}@kline_{interval}" for name in names for interval in intervals]
        market += [f"{name}@markPrice@1s" for name in names]
        if settings.early:
            self.trade_bars = TradeBars(symbols, self.bars.step_ms, tasks=tasks, emit=self._on_early)
            market += [f"{name}@aggTrade" for name in names]
        book = [f"{name}@bookTicker" for name in names]
        self.feeds[MARKET] = Feed(
            MARKET,
            lambda: manager.futures_multiplex_socket(market, category="market"),
            silence_ms=settings.market_silence_ms,
            streams=market,
        )
        self.feeds[PUBLIC] = Feed(
            PUBLIC,
            lambda: manager.futures_multiplex_socket(book, category="public"),
            silence_ms=settings.public_silence_ms,
            streams=book,
        )
        if settings.private:
            self.feeds[USER] = Feed(USER, manager.futures_user_socket, silence_ms=None)

    # Life cycle --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open all sockets, fill the gap after history, and return.

        Raises
        ------
        BotError
            A socket does not open.
        """
        await self.open_all()  # user first: nothing that happens from now on is missed
        await self.bars.fill_now()
        self.bars.arm()
        self.watch_all()

    async def close(self) -> None:
        """Close all sockets at once."""
        self.bars.close()
        if self.trade_bars is not None:
            self.trade_bars.close()
        await super().close()

    def audit(self, snapshot: AccountSnapshot) -> None:
        """Compare a snapshot's fills with those of the user stream: a missing one shows that the stream is dead."""
        feed = self.feeds.get(USER)
        if feed is None or feed.lost or feed.socket is None:
            return
        since = feed.since_ms + DEAF_AFTER_MS
        for fill in snapshot.fills:
            told = (fill.symbol, fill.trade_id) in self._seen
            if not told and since <= fill.at_ms <= snapshot.at_ms - DEAF_AFTER_MS:
                self.distrust(USER, f"it never told of trade {fill.trade_id} of {fill.symbol}")
                return

    def view(self) -> dict[str, Any]:
        """Return the state of every stream, and the lag of closed bars."""
        return {
            **super().view(),
            "close_lag": {symbol: lag.summary() for symbol, lag in self.close_lag.items()},
            "bars_fetched": self.bars.fetched,
        }

    @property
    def lag_ms(self) -> int | None:
        """The newest lag of the traded symbol's quotes, None before the first."""
        lag = self.feeds[PUBLIC].streams[f"{self.symbols[0].lower()}@bookTicker"].lag
        return lag.last if lag.count else None

    # Frames ------------------------------------------------------------------------------------------------------------

    def _on_frame(self, feed: Feed, frame: Frame) -> None:
        wrapped = "stream" in frame and "data" in frame
        payload = frame["data"] if wrapped else frame
        if feed.name == USER:
            self._on_account(feed, payload)
            return
        name = frame["stream"] if wrapped else ""
        if not isinstance(name, str) or name not in feed.streams:
            raise WireError(f"the {feed.name} stream sent what was not subscribed to: {shortened(frame)}")
        latest = latest_ms(self._tasks.clock)
        match wire.kind_of(payload):
            case "kline":
                bar_push = wire.timely(KlinePush.of(payload), latest)
                bar = wire.pushed_kline(bar_push)
                wire.in_time(bar.open_ms, latest)
                self._refuse_other_values(bar_push, bar)
                self._heard(feed, name, bar_push, f"kline_{bar_push.bar.interval}")
                self._on_kline(bar_push, bar, frame.received_ns)
            case "bookTicker":
                best = wire.timely(BookTickerPush.of(payload), latest)
                self._heard(feed, name, best, "bookTicker")
                if best.number > self._book_ids.get(best.symbol, -1):
                    self._book_ids[best.symbol] = best.number
                    self._emit(wire.quotes(best))
            case "markPriceUpdate":
                mark = wire.timely(MarkPricePush.of(payload), latest)
                event = wire.funding(mark, hours=self._gateway.funding_hours.get(mark.symbol, 8))
                self._heard(feed, name, mark, "markPrice@1s")
                if event is not None:
                    self._on_funding(event)
            case "aggTrade":
                trade = wire.timely(AggTradePush.of(payload), latest)
                wire.in_time(trade.trade_ms, latest)
                self._heard(feed, name, trade, "aggTrade")
                if self.trade_bars is not None:
                    self.trade_bars.push(trade)
            case _:
                raise WireError(f"the {feed.name} stream sent what was not subscribed to: {shortened(payload)}")

    def _on_account(self, feed: Feed, payload: Any) -> None:
        """Handle a frame of the user stream."""
        if wire.kind_of(payload) in MARKET_KINDS:
            raise WireError(f"the user stream sent what belongs on another one: {shortened(payload)}")
        events = wire.events_of(
            payload,
            rates=self._gateway.fee_rates,
            symbols=self.symbols,
            latest_ms=latest_ms(self._tasks.clock),
        )
        feed.frames += 1
        for event in events:
            self._observe(event.at_ms)
        for event in events:
            if isinstance(event, FeedLost):
                self._lose(feed, event.reason, at_ms=event.at_ms)
                self._reopen(feed)
                continue
            if isinstance(event, Fill):
                self._remember(event)
            self._emit(event)

    def _heard(self, feed: Feed, name: str, push: MarketPush, suffix: str) -> None:
        """Record that a stream delivers: the frame fits and belongs to it."""
        if name != f"{push.symbol.lower()}@{suffix}":
            raise WireError(f"the stream {name} sent {push.symbol.lower()}@{suffix}")
        clock, stream = self._tasks.clock, feed.streams[name]
        feed.frames += 1
        stream.frames += 1
        stream.heard_ms = clock.now_ms()
        stream.lag.add(stream.heard_ms - push.event_ms)
        self._observe(push.event_ms)
        if feed.lost:
            self._delivers_again(feed)

    def _observe(self, event_ms: int) -> None:
        if isinstance(self._tasks.clock, WallClock):
            self._tasks.clock.observe(event_ms)

    def _refuse_other_values(self, push: KlinePush, bar: Kline) -> None:
        """Reject a bar that was closed before with other values."""
        known = self._closed.get((bar.symbol, bar.interval_ms))
        if known is not None and bar.open_ms == known.open_ms and push.bar.is_closed and bar != known:
            raise WireError(f"the bar of {bar.symbol} at {bar.open_ms} was closed before, with other values")

    def _kind(self, frame: Frame) -> str:
        payload = frame.get("data", frame)
        kind = payload.get("e") if isinstance(payload, dict) else None
        return kind if isinstance(kind, str) and kind in MARKET_KINDS | ACCOUNT_KINDS else "frame"

    def _on_untimely(self) -> None:
        self._gateway.doubt_clock()

    def _remember(self, fill: Fill) -> None:
        key = (fill.symbol, fill.trade_id)
        if key not in self._seen:
            self._seen.add(key)
            self._seen_order.append(key)
            while len(self._seen_order) > SEEN_FILLS:
                self._seen.discard(self._seen_order.popleft())

    def _on_kline(self, push: KlinePush, bar: Kline, received_ns: int) -> None:
        base = bar.interval_ms == self.bars.step_ms
        if not push.bar.is_closed:
            if base:
                self._forming[bar.symbol] = bar
            return
        self._closed[bar.symbol, bar.interval_ms] = bar
        if base:
            self.close_lag[bar.symbol].add(self._tasks.clock.now_ms() - bar.close_ms)
            if self._decisions is not None and received_ns:
                self._decisions.bar(bar.symbol, bar.open_ms, received_ns)
            self.bars.push(KlineClosed(push.event_ms, bar))
        elif self._on_cross_check is not None:
            self._on_cross_check(bar)

    def forming(self) -> dict[str, Kline]:
        """Return the unfinished bar of each symbol as last pushed: for display only, never for decisions."""
        return dict(self._forming)

    def _on_early(self, event: KlineClosed) -> None:
        if not self.feeds[MARKET].lost:
            self._emit(event)

    def _on_funding(self, event: Funding) -> None:
        """Emit a mark price when its funding has changed, else once a minute: it comes every second."""
        told = self._funding.get(event.symbol)
        if (
            told is None
            or (told.rate, told.next_funding_ms) != (event.rate, event.next_funding_ms)
            or event.at_ms - told.at_ms >= self.settings.funding_every_ms
        ):
            self._funding[event.symbol] = event
            self._emit(event)

    # Loss and recovery -------------------------------------------------------------------------------------------------

    def _interrupted(self, feed: Feed) -> None:
        if feed.name == MARKET and self.trade_bars is not None:
            self.trade_bars.interrupted()

    def _delivers_again(self, feed: Feed) -> None:
        if feed.name == MARKET:
            self._market_delivers = True
            self.bars.fill()
        else:
            self._restore(feed)

    def _bar_missing(self, reason: str) -> None:
        self._lose(self.feeds[MARKET], reason)
        self._market_delivers = True

    def _bars_filled(self) -> None:
        """Restore the market feed if its own data started the backfill, not a late bar."""
        if self._market_delivers:
            self._market_delivers = False
            self._restore(self.feeds[MARKET])
