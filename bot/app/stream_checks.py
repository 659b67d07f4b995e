"""The checks of `doctor` that need streams: the three streams, a stop order placed far away and cancelled, the lag of bars.

An exchange accepts a subscription on the wrong path and stays silent, so only data prove a stream. The private stream is
silent while nothing happens: the stop order makes it send something.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Self

from bot.app.checks import OK, Bench, Check, failed, ok, warn
from bot.core.errors import WireError
from bot.core.events import KlineClosed, OrderUpdate
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.types import OrderSide, OrderStatus, OrderType, Round
from bot.execution import wire
from bot.execution.outcomes import Accepted, Rejected, describe
from bot.execution.sockets import HardenedSocket, Note

FRAME_WAIT_S: Final = 15.0
FAR: Final = Decimal("0.8")  # trigger price of the test stop, as a fraction of the bid
LATE_BAR_MS: Final = 2_500  # closed bars come up to about 2 s late on futures


@dataclass(slots=True)
class Listening:
    """The three sockets, open while their checks run, and what they received."""

    bench: Bench
    frames: dict[str, int] = field(default_factory=dict)
    opened: dict[str, str] = field(default_factory=dict)  # feed -> why it did not open
    stops: set[str] = field(default_factory=set)  # client ids of the conditional orders reported by the private stream
    closed_bar: tuple[int, int] | None = None  # ms: event time after its close, receipt after event time
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        """Open the sockets; one that does not open becomes its check's finding."""
        manager, symbol = self.bench.line.sockets, self.bench.symbols[0].lower()
        factories = {
            "market": lambda: manager.futures_multiplex_socket(
                [f"{symbol}@kline_1m", f"{symbol}@markPrice@1s"], category="market"
            ),
            "public": lambda: manager.futures_multiplex_socket([f"{symbol}@bookTicker"], category="public"),
            "user": manager.futures_user_socket,
        }
        for feed, factory in factories.items():
            socket: HardenedSocket = factory()
            try:
                await socket.connect()
            except Exception as error:
                self.opened[feed] = describe(error)
                continue
            self._stack.push_async_callback(socket.close)
            reader = asyncio.create_task(self._read(feed, socket), name=f"doctor {feed}")
            self._stack.callback(reader.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the sockets."""
        await self._stack.aclose()

    async def _read(self, feed: str, socket: HardenedSocket) -> None:
        while True:
            message = await socket.recv()
            if isinstance(message, Note):
                continue
            payload = message["data"] if "stream" in message and "data" in message else message
            try:
                events = wire.events_of(payload)
            except WireError:
                continue  # a stream of only unreadable frames counts as silent
            self.frames[feed] = self.frames.get(feed, 0) + 1
            for event in events:
                if isinstance(event, OrderUpdate) and event.algo:
                    self.stops.add(event.client_id)
                elif isinstance(event, KlineClosed):
                    told = event.at_ms - event.kline.close_ms
                    self.closed_bar = (told, self.bench.line.clock.now_ms() - event.at_ms)
            self._news.set()

    async def until(self, ready: Any, seconds: float) -> bool:
        """Wait until `ready()` is true, at most `seconds` of wall time; return whether it is."""
        try:
            async with asyncio.timeout(seconds):
                while not ready():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


async def _stream(ears: Listening, feed: str, what: str) -> Check:
    name = f"{feed} stream"
    if feed in ears.opened:
        return failed(name, f"cannot be opened: {ears.opened[feed]}", "check the network and the venue's stream_url")
    if not await ears.until(lambda: ears.frames.get(feed), FRAME_WAIT_S):
        text = f"open, but silent for {FRAME_WAIT_S:.0f} s"
        return failed(name, text, "an exchange accepts a stream on the wrong path and stays silent: check stream_url")
    return ok(name, f"delivers ({what})")


async def market_stream(bench: Bench, ears: Listening) -> Check:
    """Check that the market stream delivers."""
    return await _stream(ears, "market", "klines, mark price")


async def public_stream(bench: Bench, ears: Listening) -> Check:
    """Check that the public stream delivers."""
    return await _stream(ears, "public", "best prices")


async def stop_order(bench: Bench, ears: Listening) -> list[Check]:
    """Place a reduce-only stop far away, cancel it, and check that the private stream reports it."""
    check, own_id = await place_and_cancel(bench)
    return [check] if check.status != OK else [check, await _user_stream(ears, own_id)]


async def place_and_cancel(bench: Bench) -> tuple[Check, str]:
    """Place a reduce-only stop far away and cancel it; return the finding and the order's client id."""
    gateway, symbol = bench.line.gateway, bench.symbols[0]
    name, own_id = "stop orders", f"doctor-{int(time.time() * 1000)}"
    assert bench.session is not None, "the instruments are read before"
    instrument = bench.session.instruments[0]
    quote = await gateway.quote(symbol)
    least = max(instrument.min_qty, instrument.min_notional / (quote.bid * FAR))
    stop = PlaceOrder(
        own_id,
        symbol,
        OrderSide.SELL,
        OrderType.STOP_MARKET,
        instrument.qty(least + instrument.lot),
        trigger_price=instrument.price(quote.bid * FAR, Round.DOWN),
        reduce_only=True,
    )
    began = time.perf_counter()
    outcome = await gateway.place(stop)
    placed_ms = (time.perf_counter() - began) * 1000
    if isinstance(outcome, Rejected):
        hint = "the bot could not protect a position here: check permissions and the account's status"
        return failed(name, f"refused: {outcome.message} ({outcome.code})", hint), own_id
    taken = await gateway.cancel(CancelOrder(own_id, symbol, algo=True), known=stop)
    left = await gateway.query(own_id, symbol, algo=True)
    gone = isinstance(left, Rejected) or (
        isinstance(left, Accepted) and left.update is not None and left.update.status is OrderStatus.CANCELED
    )
    if not gone:
        hint = f"cancel the conditional order {own_id} of {symbol} by hand; reduce-only, it cannot open anything"
        return failed(name, f"placed, but cancelling it ended as {type(taken).__name__.lower()}", hint), own_id
    if not isinstance(outcome, Accepted):
        return warn(name, f"the exchange did not say what became of it: {outcome.reason}", "try again"), own_id
    return ok(name, f"accepted in {placed_ms:.0f} ms at {stop.trigger_price}, then cancelled"), own_id


async def _user_stream(ears: Listening, own_id: str) -> Check:
    if "user" in ears.opened:
        return failed(
            "user stream", f"cannot be opened: {ears.opened['user']}", "check the key and the venue's stream_url"
        )

    if not await ears.until(lambda: own_id in ears.stops, FRAME_WAIT_S):
        hint = "the bot would not hear of its fills: check stream_url, and that no other program ends the listen key"
        return failed("user stream", "did not tell of the stop order that was placed", hint)
    return ok("user stream", "delivers (told of the stop order)")


async def bar_lag(bench: Bench, ears: Listening) -> Check:
    """Measure the lag of a closed bar."""
    if not await ears.until(lambda: ears.closed_bar, 70.0):
        return warn("closed bars", "none came in 70 s", "the exchange may have had no trade; try again")
    assert ears.closed_bar is not None
    told, received = ears.closed_bar
    if bench.replay:
        return ok("closed bars", f"told {told} ms of replay time after their end")
    text = f"told {told} ms after their end, here {max(received, 0)} ms later"
    if told + received > LATE_BAR_MS:
        return warn("closed bars", text, 'decisions come that late: consider data.bar_close = "early"')
    return ok("closed bars", text)


async def budget(bench: Bench) -> Check:
    """Report how much of the minute's request weight is used."""
    limits = bench.line.limits
    text = f"{limits.used_weight} of {limits.weight_limit} request weight used in this minute"
    if limits.paused or limits.used_weight > limits.weight_limit * (1 - limits.reserve):
        return warn("budget", text, "something else on this address uses it up: find it, or use another address")
    return ok("budget", text)
