"""Faults on request: what goes wrong between a client and an exchange, switched on by `POST /sim/faults` or `--faults FILE`.

A fault is `{"fault": NAME, "path": P, "after": N, "count": N, "ms": N}`: it lets `after` matches pass (default 0), then acts on
`count` of them (default 1; 0 = all). `path` narrows it; without one everything of its kind matches.

| name | acts on | does |
|---|---|---|
| http_503_executed | order and account writes | carries the request out and answers 503 "Unknown error" |
| http_503_not_executed | the same | answers 503 "Unknown error" without carrying it out |
| http_503_unavailable | any request | answers 503 "Service Unavailable.": a definite failure |
| http_502_html | any request | answers 502 with a page of HTML, without carrying it out |
| http_429 | any request | answers 429 -1003 with Retry-After (`ms`, default 1,000, in whole seconds) |
| late_reply | any request | replies `ms` (default 3,000) of exchange time later |
| drop_event | frames | loses the frame |
| duplicate_event | frames | sends it twice |
| reorder_events | frames | sends it after the next frame of that socket |
| close_sockets | sockets | closes them; in a stepped replay a handshake waits `ms` (default 1,000) of exchange time |
| silent_stream | sockets | sends nothing for `ms` (default 0: for ever) although the socket stays open |
| listen_key_expired | the listen key | expires it |

For requests `path` is `/fapi/v1/order` (`*` at its end matches what follows; `POST /fapi/v1/order` names the method). For frames
and sockets it is the socket's path (`/private`), a stream (`btcusdt@kline_3m`) or an event type (`ORDER_TRADE_UPDATE`).
The last three act at once with `after` 0, else when that many frames have matched. Posting a list replaces the faults that
are on; an empty list switches all off.
"""

from dataclasses import dataclass
from typing import Any, Final

from bot.sim.errors import Refused

WRITES: Final = frozenset({"http_503_executed", "http_503_not_executed"})
REQUESTS: Final = WRITES | {"http_503_unavailable", "http_502_html", "http_429", "late_reply"}
FRAMES: Final = frozenset({"drop_event", "duplicate_event", "reorder_events"})
SOCKETS: Final = frozenset({"close_sockets", "silent_stream", "listen_key_expired"})
NAMES: Final = REQUESTS | FRAMES | SOCKETS
FIELDS: Final = frozenset({"fault", "path", "after", "count", "ms"})


@dataclass(slots=True)
class Fault:
    """One fault and how often it has matched and acted."""

    fault: str
    path: str = ""
    after: int = 0
    count: int = 1
    ms: int = 0
    matched: int = 0
    acted: int = 0

    def strikes(self) -> bool:
        """Count a match and return whether the fault acts on it."""
        self.matched += 1
        if self.matched <= self.after or (self.count and self.acted >= self.count):
            return False
        self.acted += 1
        return True

    def report(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def parse(data: object) -> list[Fault]:
    """Read the JSON of `/sim/faults` or of a faults file; anything wrong is a refusal that says what."""
    rows = data if isinstance(data, list) else [data]
    faults = []
    for row in rows:
        if not isinstance(row, dict) or row.get("fault") not in NAMES:
            name = row.get("fault") if isinstance(row, dict) else row
            raise Refused(-1130, text=f"unknown fault {name!r}: known are {', '.join(sorted(NAMES))}")
        unknown = row.keys() - FIELDS
        if unknown:
            raise Refused(-1130, text=f"unknown field {sorted(unknown)[0]!r} of fault {row['fault']}")
        numbers = {name: row.get(name, 1 if name == "count" else 0) for name in ("after", "count", "ms")}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise Refused(-1130, text=f"{name} of fault {row['fault']} must be a whole number, not {value!r}")
        path = row.get("path") or ""
        if not isinstance(path, str):
            raise Refused(-1130, text=f"path of fault {row['fault']} must be a string")
        faults.append(Fault(row["fault"], path, **numbers))
    return faults


class Faults:
    """The faults that are on."""

    def __init__(self) -> None:
        self.active: list[Fault] = []
        self.on_frames = False  # whether frames have to be looked at one by one

    def replace(self, faults: list[Fault]) -> None:
        """Switch to these faults."""
        self.active = faults
        self.on_frames = any(fault.fault in FRAMES | SOCKETS for fault in faults)

    def of_request(self, method: str, path: str, *, write: bool) -> Fault | None:
        """Return the fault that acts on a request, if any."""
        for fault in self.active:
            if fault.fault not in REQUESTS or (fault.fault in WRITES and not write):
                continue
            if _request_matches(fault.path, method, path) and fault.strikes():
                return fault
        return None

    def of_frame(self, socket_path: str, stream: str, event: str) -> Fault | None:
        """Return the fault that acts on a frame about to go out, if any."""
        for fault in self.active:
            if fault.fault in FRAMES or (fault.fault in SOCKETS and fault.after):
                matches = not fault.path or fault.path in (stream, event) or socket_path.startswith(fault.path)
                if matches and fault.strikes():
                    return fault
        return None


def _request_matches(pattern: str, method: str, path: str) -> bool:
    if not pattern:
        return not path.startswith("/sim/")
    wanted_method, _, wanted = pattern.rpartition(" ")
    if wanted_method and wanted_method.upper() != method:
        return False
    return path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted
