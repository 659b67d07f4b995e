"""The operator endpoints, `/sim/…`: state, faults, quirks and transfers, answered at once regardless of the clock.

They need no key, so they answer only requests to a loopback host name (a page of a foreign site that points its own
name at 127.0.0.1 sends that name) and accept only JSON by POST (which a page cannot send across sites without a
preflight).
"""

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import orjson

from bot.core.errors import ConfigError
from bot.sim.calls import Call, Reply
from bot.sim.errors import Refused
from bot.sim.faults import parse
from bot.sim.transfers import transfer

if TYPE_CHECKING:
    from bot.sim.server import Exchange


class Operators:
    """Handles requests of tests and operators."""

    def __init__(self, exchange: "Exchange") -> None:
        self._x = exchange
        self._gets: dict[str, Callable[[Call], Any]] = {
            "/sim/state": lambda call: exchange.state(live_only=call.params.get("only") == "live"),
            "/sim/faults": lambda call: self._faults(),
            "/sim/quirks": lambda call: exchange.venue.quirks.report(),
        }
        self._posts: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "/sim/faults": self._set_faults,
            "/sim/quirks": self._set_quirks,
            "/sim/transfer": self._transfer,
        }

    async def answer(self, call: Call, *, host: str, content_type: str) -> Reply:
        """Answer one request that was sent to `host`."""
        if not is_loopback_name(host):
            return _wrong(403, "the operators' side answers on a loopback name only: 127.0.0.1, [::1] or localhost")
        if call.method == "GET" and call.path in self._gets:
            return Reply(200, self._gets[call.path](call))
        if call.method != "POST" or call.path not in self._posts:
            return Reply(404, Refused(-5000, call.path, call.method).body())
        if content_type != "application/json":
            return _wrong(415, f"{call.path} takes JSON: send Content-Type: application/json")
        try:
            return Reply(200, await self._posts[call.path](orjson.loads(call.body)))
        except orjson.JSONDecodeError as error:
            return _wrong(400, f"not JSON: {error}")
        except ConfigError as error:
            return _wrong(400, str(error))
        except Refused as refused:
            return Reply(400, refused.body())

    def _faults(self) -> Any:
        return {"faults": [fault.report() for fault in self._x.faults.active]}

    async def _set_faults(self, data: Any) -> Any:
        await self._x.set_faults(parse(data))
        return self._faults()

    async def _set_quirks(self, data: Any) -> Any:
        venue = self._x.venue
        venue.turn(venue.quirks.changed(data))
        return venue.quirks.report()

    async def _transfer(self, data: Any) -> Any:
        x = self._x
        if not isinstance(data, dict):
            raise Refused(-1130, text='a transfer is {"asset": "USDT", "amount": "-100"}')
        x.venue.now_ms = x.clock.now_ms()
        booking = transfer(x.venue, {name: str(value) for name, value in data.items()})
        x.market.follow_up()
        await x.traffic.deliver_at_once()
        return booking


def is_loopback_name(host: str) -> bool:
    """Return whether a Host header names this machine's loopback, with or without a port.

    >>> [is_loopback_name(h) for h in ("localhost:8787", "127.0.0.2", "[::1]:80", "evil.example:8787", "127.0.0.1.nip.io", "")]
    [True, True, True, False, False, False]
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _wrong(status: int, text: str) -> Reply:
    return Reply(status, {"code": -1130, "msg": text})
