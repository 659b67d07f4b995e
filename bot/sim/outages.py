"""Socket faults, and the end of a socket's life: closing, storms, silence, half-open connections, outages.

No client is admitted during an outage. On a stepped clock it lasts for its exchange time; then the clock stops until
all previous sockets have reconnected, and they are admitted one by one in the order of their names, each when nothing
else is in flight. So what a client does on reconnecting depends only on frames and sockets, and a run with faults is
reproducible to the byte.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from bot.sim.clock import GRACE
from bot.sim.fault_kinds import MARKET
from bot.sim.faults import Fault
from bot.sim.sockets import FOR_EVER, Socket

if TYPE_CHECKING:
    from bot.sim.server import Exchange

LOG = logging.getLogger(__name__)
OUTAGE_MS: Final = 1_000
REOPEN_WITHIN_S: Final = 5.0  # wall time; a client that has not reconnected by then is given up


class Outages:
    """Executes socket faults."""

    def __init__(self, exchange: "Exchange") -> None:
        self._x = exchange
        self._wanted = 0
        self._over_ms = 0
        self.holding = False  # the clock is stopped until sockets have reconnected
        hub = exchange.hub
        hub.strike = self.strike
        hub.later = self._later
        hub.changed = self._plan_end_of_life

    async def set_faults(self, faults: Sequence[Fault]) -> None:
        """Replace the active faults; socket, market and account faults without `after` and `rate` act now."""
        x = self._x
        for fault in faults:
            x.market_faults.check(fault)
        for socket in x.hub.sockets:
            socket.silent_until_ms = 0
            socket.half_open = False
        x.faults.replace(list(faults))
        x.past.clear()
        if x.faults.on_reads:
            x.past.note(x.venue, x.clock.now_ms())
        for fault in faults:
            if not fault.at_once:
                continue
            fault.strikes()
            if fault.kind.on == MARKET:
                x.market_faults.strike(fault)
            elif fault.fault == "listen_key_expired":
                x.traffic.expire_key()
            else:
                await self._strike([s for s in x.hub.sockets if _concerns(fault, s)], fault)
            await x.traffic.deliver_at_once()

    def _later(self, ms: int, action: Callable[[], None]) -> None:
        if self._x.running:
            self._x.later(ms, action, name="delayed frame", closing=True)
        else:
            action()  # the clock is stopped

    async def strike(self, socket: Socket, fault: Fault) -> None:
        """Execute a fault that a frame of `socket` has matched."""
        if fault.fault == "listen_key_expired":
            self._x.traffic.expire_key()
        else:
            await self._strike([socket], fault)

    async def _strike(self, sockets: list[Socket], fault: Fault) -> None:
        now = self._x.clock.now_ms()
        match fault.fault:
            case "close_sockets":
                await self.outage(sockets, fault.span_ms)
            case "disconnect_storm":
                for number in range(1, max(1, fault.get("times"))):
                    self._x.later(number * fault.span_ms, lambda: self._again(fault), name="disconnect storm")
                await self.outage(sockets, OUTAGE_MS)
            case "silent_stream":
                for socket in sockets:
                    socket.silent_until_ms = now + fault.ms if fault.ms else FOR_EVER
            case "half_open":
                for socket in sockets:
                    socket.half_open = True
                    if fault.ms:
                        self._x.later(fault.ms, partial(_revive, socket), name="half open")

    async def _again(self, fault: Fault) -> None:
        await self.outage([s for s in self._x.hub.sockets if _concerns(fault, s)], OUTAGE_MS)

    async def outage(self, sockets: Sequence[Socket], ms: int) -> None:
        """Close sockets; on a running clock they can reconnect after `ms`."""
        x = self._x
        if not sockets:
            return
        LOG.info("closing %d sockets at %d", len(sockets), x.clock.now_ms())
        if x.running:
            x.hub.gate.closed = True
            self._wanted = max(self._wanted, len(x.hub.sockets))
            self._over_ms = max(self._over_ms, x.clock.now_ms() + ms)
            x.later(ms, self._reopen, name="end of an outage", closing=True)
        await asyncio.gather(*(x.hub.close_socket(socket) for socket in sockets))

    async def _reopen(self) -> None:
        """Admit clients again; a stepped clock stops until all previous sockets have reconnected."""
        x = self._x
        if x.clock.now_ms() < self._over_ms and x.running:
            return  # another outage has begun meanwhile
        wanted, self._wanted = self._wanted, 0
        if not x.stepped:
            x.hub.gate.open()
            return
        self.holding = True
        try:
            await self._let_in(wanted)
        finally:
            self.holding = False
            x.hub.gate.open()

    async def _let_in(self, wanted: int) -> None:
        hub, traffic = self._x.hub, self._x.traffic
        loop = asyncio.get_running_loop()
        since, complete = loop.time(), False
        while loop.time() - since < REOPEN_WITHIN_S:
            if not await self._calm():
                await asyncio.sleep(0.0005)
            elif traffic.parked:
                await traffic.answer_parked()
            elif complete and not hub.gate.waiting:
                return
            elif complete or len(hub.sockets) + hub.gate.waiting >= wanted:
                complete = True
                if hub.gate.waiting:
                    hub.gate.admit()
            else:
                await asyncio.sleep(0.0005)
        LOG.error("%d of %d sockets have not come back", max(0, wanted - len(hub.sockets)), wanted)

    async def _calm(self) -> bool:
        """Return whether nothing is in flight, after a few rounds for work that is not counted yet."""
        x = self._x
        for _ in range(GRACE + 2):
            await asyncio.sleep(0)
        return x.hub.entering == 0 and (x.activity is None or x.activity.quiet)

    def _plan_end_of_life(self) -> None:
        """Schedule the closing of the newest socket at the end of its 24 hours."""
        x = self._x
        life_ms = x.venue.quirks.socket_life_ms
        newest = max(x.hub.sockets, key=lambda socket: socket.number)
        if life_ms:

            async def end() -> None:
                if newest in x.hub.sockets:
                    await self.outage([newest], 0)

            x.later(life_ms, end, name="24 hours")


def _revive(socket: Socket) -> None:
    socket.half_open = False


def _concerns(fault: Fault, socket: Socket) -> bool:
    return not fault.path or ("/" + socket.category).startswith(fault.path) or fault.path in socket.streams
