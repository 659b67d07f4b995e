"""Network traffic in time: requests in and replies out, pushes, each with its latency on the exchange's clock.

A request of the stepped client is parked until nothing is in flight; requests parked together are then scheduled in an
order that does not depend on arrival. While the clock is stopped, and for clients outside the stepped replay, requests
are answered at once.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson

from bot.sim.calls import Call, Reply
from bot.sim.clock import SteppedDriver
from bot.sim.draws import Draws
from bot.sim.errors import broken
from bot.sim.feed import Batches
from bot.sim.sockets import PushFrame, Socket

if TYPE_CHECKING:
    from bot.sim.server import Exchange

OUTCOME_WAIT_MS: Final = 1_000  # how long the reply to a MARKET order with RESULT waits for its outcome


class Traffic:
    """Requests and pushes of one exchange.

    Parameters
    ----------
    order_latency_ms, push_latency_ms : float
        Typical time from request to reply (half of it inbound) and from event to frame, exchange ms.
    """

    def __init__(self, exchange: "Exchange", *, draws: Draws, order_latency_ms: float, push_latency_ms: float) -> None:
        self._x, self._draws = exchange, draws
        self._order_latency, self._push_latency = order_latency_ms, push_latency_ms
        self._asked: dict[str, int] = {}
        self.parked: list[Call] = []
        self._at_once: list[tuple[Socket, list[PushFrame]]] = []

    # -- pushes -----------------------------------------------------------------------------------------------------

    def tell_user(self) -> None:
        """Send pending user events."""
        x = self._x
        events, x.venue.outbox = x.venue.outbox, []
        if not events:
            return
        if x.faults.on_reads:
            x.past.note(x.venue, x.clock.now_ms())
        if not x.keys.active:
            return
        batches: Batches = {}
        for event in events:
            frame = PushFrame(x.keys.active, event["e"], orjson.dumps(event))
            for socket in x.hub.users(x.keys.active, event["e"]):
                batches.setdefault(socket, []).append(frame)
        self.push(batches, "user")

    def expire_key(self) -> None:
        """Expire the listen key and notify its listeners."""
        x = self._x
        key, now = x.keys.active, x.clock.now_ms()
        if not key:
            return
        self.tell_user()
        payload = orjson.dumps({"e": "listenKeyExpired", "E": now, "listenKey": key})
        sockets = x.hub.users(key, "listenKeyExpired")
        self.push({socket: [PushFrame(key, "listenKeyExpired", payload)] for socket in sockets}, "user")
        x.keys.delete()

    def push(self, batches: Batches, what: str) -> None:
        """Schedule frames: they arrive with the push latency, each socket's in order."""
        x = self._x
        if not batches:
            return
        now = x.clock.time_ms
        for socket in sorted(batches, key=lambda s: s.key):
            frames = batches[socket]
            if not x.running:
                self._at_once.append((socket, frames))
                continue
            latency = self._push_latency * (0.5 + self._draws.uniform(what, socket.key, now))
            if x.faults.on_pushes:
                latency += x.faults.lag("/" + socket.category, frames[0].event)
            at_ms = max(socket.sent_until_ms, now + round(latency))
            socket.sent_until_ms = at_ms
            x.clock.at(at_ms, self._delivery(socket, frames), name=f"{what} frames", rank=2, closing=True)

    def _delivery(self, socket: Socket, frames: list[PushFrame]) -> Callable[[], Any]:
        x = self._x
        return lambda: x.hub.deliver(socket, frames)

    async def deliver_at_once(self) -> None:
        """Send the frames that were pushed while the clock is stopped."""
        x = self._x
        pending, self._at_once = self._at_once, []
        for socket, frames in pending:
            await x.hub.deliver(socket, frames)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def serve(self, call: Call) -> Reply:
        """Execute a request and return its reply, both with their latency."""
        x = self._x
        if not x.running or (x.stepped and not call.counted):
            reply, _ = x.desk.execute(call)
            self._changed(call)
            await self.deliver_at_once()
            return reply
        call.reply = asyncio.get_running_loop().create_future()
        if x.stepped:
            self.parked.append(call)
            if call.counted and x.activity is not None:
                x.activity.end()
            if isinstance(x.driver, SteppedDriver):
                x.driver.arrived()
        else:
            self._schedule(call)
        return await call.reply

    def take_parked(self) -> bool:
        """Schedule the parked requests, ordered by name; return whether there were any."""
        if not self.parked:
            return False
        parked, self.parked = self.parked, []
        for call in sorted(parked, key=lambda call: call.name):
            self._schedule(call)
        return True

    def _schedule(self, call: Call) -> None:
        x = self._x
        name = call.name
        nth = self._asked[name] = self._asked.get(name, 0) + 1
        total = round(self._order_latency * (0.7 + 0.6 * self._draws.uniform("request", name, nth)))
        total += x.faults.slowness(call.method, call.path)
        now = x.clock.now_ms()
        call.answer_ms = now + total
        x.clock.at(now + total // 2, lambda: self._arrive(call), name=name, touches=False, closing=True)

    def _arrive(self, call: Call) -> None:
        x = self._x
        reply, late_ms = x.desk.execute(call)
        self._changed(call)
        self._answer_at(call, reply, call.answer_ms + late_ms)

    def _changed(self, call: Call) -> None:
        """Follow up on a request that may have changed a book; a failure here does not hold back the reply."""
        x = self._x
        symbol = call.params.get("symbol")
        try:
            x.market.follow_up(symbol if symbol in x.venue.books else None)
        except Exception as error:
            x.clock.note_failure(f"what follows {call.method} {call.path}", error)

    def _answer_at(self, call: Call, reply: Reply, at_ms: int) -> None:
        x = self._x
        x.clock.at(at_ms, lambda: self._answer(call, reply), name=f"reply to {call.name}", closing=True)

    def _answer(self, call: Call, reply: Reply) -> None:
        x = self._x
        if reply.later is not None:
            data = self._outcome(call, reply)
            waited = x.clock.time_ms - call.answer_ms
            if data is None and waited < OUTCOME_WAIT_MS and x.clock.time_ms < x.end_ms:
                self._answer_at(call, reply, x.clock.time_ms + 25)
                return
            reply.data = data if data is not None else reply.data
        self._give(call, reply)

    def _outcome(self, call: Call, reply: Reply) -> Any:
        """Return the body of a reply that is built when it is sent, None while it is not ready."""
        assert reply.later is not None
        try:
            return reply.later()
        except Exception as error:
            self._x.clock.note_failure(f"the reply to {call.method} {call.path}", error)
            reply.status, reply.later = broken().status, None
            return broken().body()

    def refuse_parked(self, reply: Reply) -> None:
        """Give all parked requests the same reply."""
        for call in self.parked:
            self._give(call, reply)
        self.parked.clear()

    def _give(self, call: Call, reply: Reply) -> None:
        x = self._x
        if call.counted and x.activity is not None:
            x.activity.begin()  # ended when the client has read it
        if call.reply is not None and not call.reply.done():
            call.reply.set_result(reply)

    async def answer_parked(self) -> None:
        """Answer the parked requests at once while the clock is stopped."""
        x = self._x
        parked, self.parked = self.parked, []
        for call in sorted(parked, key=lambda call: call.name):
            reply, _ = x.desk.execute(call)
            self._changed(call)
            await self.deliver_at_once()
            self._give(call, reply)
