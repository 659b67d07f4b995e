"""Injected faults: what goes wrong between a client and an exchange, enabled by `POST /sim/faults` or `--faults FILE`.

A fault is `{"fault": NAME, "path": P, "after": N, "count": N, "ms": N, "rate": R}` and the fields of its kind. It lets
`after` matches pass (default 0), then acts on `count` of them (default 1; 0 = all). With a `rate` it acts on each match
with that probability (and `count` defaults to 0): drawn from the exchange's seed, the fault's position in the list and
the match number, so a run is reproducible to the byte. `fault_kinds.py` lists the kinds; `docs/venue-cases.md` explains
them.

* **Requests**: `path` is `/fapi/v1/order` (`*` at its end matches any suffix; `POST /fapi/v1/order` names the method).
* **Frames and sockets**: `path` is the socket's path (`/private`), a stream (`btcusdt@kline_3m`) or an event type
  (`ORDER_TRADE_UPDATE`). Socket faults with neither `after` nor `rate` act at once, otherwise on matching frames.
* **Market and account**: `symbol`; each minute of the exchange's clock is a match, so `after` and `rate` count minutes;
  with neither they act at once.

Without a `path` or `symbol` everything of the kind matches. Posting a list replaces the active faults; an empty list
disables all. At most one fault acts on a request or a frame: the first of the list that is due.
"""

from dataclasses import dataclass, field
from math import cos, exp, log, pi, sqrt
from typing import Any, Final

from bot.core.errors import ConfigError
from bot.sim.draws import Draws
from bot.sim.errors import Refused
from bot.sim.fault_kinds import (
    COMMON,
    FRAME,
    KINDS,
    MARKET,
    NAMES,
    PUSH,
    READ,
    REQUEST,
    SOCKET,
    WRITE,
    Kind,
    check_field,
)

EVERYDAY: Final = "everyday"


@dataclass(slots=True)
class Fault:
    """One fault and how often it has matched and acted."""

    fault: str
    path: str = ""
    after: int = 0
    count: int = 1
    ms: int = 0
    rate: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)
    matched: int = 0
    acted: int = 0

    @property
    def kind(self) -> Kind:
        """Its entry in the table of faults."""
        return KINDS[self.fault]

    @property
    def span_ms(self) -> int:
        """Its `ms`, or the default of its kind."""
        return self.ms or self.kind.ms

    @property
    def at_once(self) -> bool:
        """Whether it acts as soon as it is enabled."""
        return self.kind.on in (SOCKET, MARKET) and not self.after and not self.rate

    def get(self, name: str) -> Any:
        """Return a field specific to its kind, or the field's default."""
        return self.more[name] if name in self.more else dict(self.kind.more)[name]

    def strikes(self, draws: Draws | None = None, place: int = 0) -> bool:
        """Count a match and return whether the fault acts on it."""
        self.matched += 1
        if self.matched <= self.after or (self.count and self.acted >= self.count):
            return False
        if self.rate and draws is not None and draws.uniform("fault", place, self.fault, self.matched) >= self.rate:
            return False
        self.acted += 1
        return True

    def report(self) -> dict[str, Any]:
        """Return the fault as a JSON object."""
        names = (*COMMON, "matched", "acted")
        return {name: getattr(self, name) for name in names} | {name: self.get(name) for name, _ in self.kind.more}


def parse(data: object) -> list[Fault]:
    """Parse the JSON of `/sim/faults` or of a faults file.

    `{"fault": "everyday", "rate": 0.05}` stands for the entire list of `everyday`.

    Raises
    ------
    Refused
        -1130 for an unknown fault or field or an invalid value; the text says which.
    """
    faults: list[Fault] = []
    for row in data if isinstance(data, list) else [data]:
        if isinstance(row, dict) and row.get("fault") == EVERYDAY:
            rate = row.get("rate", 0.05)
            if row.keys() - {"fault", "rate"} or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
                raise Refused(-1130, text=f"{EVERYDAY} takes a rate above 0 and at most 1 and nothing else")
            faults += everyday(float(rate))
        else:
            faults.append(_fault(row))
    return faults


def _fault(row: object) -> Fault:
    if not isinstance(row, dict) or not isinstance(row.get("fault"), str) or row["fault"] not in NAMES:
        name = row.get("fault") if isinstance(row, dict) else row
        raise Refused(-1130, text=f"unknown fault {name!r}: known are {', '.join(sorted((*NAMES, EVERYDAY)))}")
    name = row["fault"]
    more = dict(KINDS[name].more)
    unknown = row.keys() - set(COMMON) - more.keys()
    if unknown:
        known = ", ".join((*COMMON[1:], *more))
        raise Refused(-1130, text=f"unknown field {min(unknown)!r} of fault {name}: it takes {known}")
    rate = row.get("rate", 0.0)
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate <= 1:
        raise Refused(-1130, text=f"rate of fault {name} must be a number from 0 to 1, not {rate!r}")
    numbers = {
        field: row.get(field, (0 if rate else 1) if field == "count" else 0) for field in ("after", "count", "ms")
    }
    for field_name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise Refused(-1130, text=f"{field_name} of fault {name} must be a whole number, not {value!r}")
    path = row.get("path") or ""
    if not isinstance(path, str):
        raise Refused(-1130, text=f"path of fault {name} must be a string")
    given = {field: row[field] for field in more if field in row}
    for field_name, value in given.items():
        check_field(name, field_name, value, more[field_name])
    return Fault(name, path, **numbers, rate=float(rate), more=given)


def everyday(rate: float = 0.05) -> list[Fault]:
    """Return the faults of a bad day for a soak test: about `rate` of all requests, and of the frames, go wrong.

    Parameters
    ----------
    rate : float
        Share of requests and of frames that a fault affects; socket and market faults are rarer.

    Raises
    ------
    ConfigError
        The rate is not above 0 and at most 1.
    """
    if not 0 < rate <= 1:
        raise ConfigError(f"the rate of faults must be above 0 and at most 1, not {rate}")
    requests = ("http_503_executed", "http_503_not_executed", "timeout_1007_executed", "timeout_1007_not_executed",
                "lost_reply", "http_503_unavailable", "internal_1001", "overload_1008", "http_502_html", "late_reply",
                "stale_reads", "cancel_race", "cancel_filled")  # fmt: skip
    faults = [Fault(name, count=0, rate=rate / 6 if KINDS[name].on == WRITE else rate / 8) for name in requests]
    faults += [Fault(name, "/private", count=0, rate=rate / 4) for name in ("drop_event", "duplicate_event",
               "reorder_events", "delay_event")]  # fmt: skip
    faults += [
        Fault("latency", count=0, rate=rate),
        Fault("push_latency", count=0, rate=rate),
        Fault("close_sockets", "/private", count=0, rate=rate / 2_000),
        Fault("close_sockets", "/market", count=0, rate=rate / 20_000),
        Fault("silent_stream", "/public", count=0, rate=rate / 50_000, ms=60_000),
        Fault("listen_key_expired", "/private", count=0, rate=rate / 500),
        Fault("http_429", count=0, rate=rate / 50, ms=2_000),
        Fault("thin_book", count=0, rate=rate / 50),
    ]
    return faults


class Faults:
    """The active faults."""

    def __init__(self, draws: Draws | None = None) -> None:
        self._draws = draws or Draws(0)
        self.active: list[Fault] = []
        self.on_frames = False  # whether frames must be checked one by one
        self.on_pushes = self.on_minutes = self.on_reads = False

    def replace(self, faults: list[Fault]) -> None:
        """Replace the active faults."""
        self.active = faults
        on = {fault.kind.on for fault in faults if not fault.at_once}
        self.on_frames = bool(on & {FRAME, SOCKET})
        self.on_pushes, self.on_minutes, self.on_reads = PUSH in on, MARKET in on, READ in on

    def of_request(self, method: str, path: str, *, write: bool, read: bool = False) -> Fault | None:
        """Return the fault that acts on a request, if any; latencies are handled by `slowness`.

        Parameters
        ----------
        method, path
            Of the request.
        write, read
            Whether the request changes state, and whether it reads account state.
        """
        for place, fault in enumerate(self.active):
            on = fault.kind.on
            if (on == REQUEST and fault.fault != "latency") or (on == WRITE and write) or (on == READ and read):
                if fault.fault.startswith("cancel_") and method != "DELETE":
                    continue
                if _request_matches(fault.path, method, path) and fault.strikes(self._draws, place):
                    return fault
        return None

    def slowness(self, method: str, path: str) -> int:
        """Return the additional latency of a request, ms."""
        for place, fault in enumerate(self.active):
            if fault.fault != "latency" or not _request_matches(fault.path, method, path):
                continue
            if fault.strikes(self._draws, place):
                return self._duration(fault, place)
        return 0

    def lag(self, socket_path: str, what: str) -> int:
        """Return the additional latency of a push to a socket, ms."""
        for place, fault in enumerate(self.active):
            if fault.kind.on != PUSH or not (fault.path in ("", what) or socket_path.startswith(fault.path)):
                continue
            if fault.strikes(self._draws, place):
                return self._duration(fault, place)
        return 0

    def of_frame(self, socket_path: str, stream: str, event: str) -> Fault | None:
        """Return the fault that acts on an outgoing frame, if any."""
        for place, fault in enumerate(self.active):
            on = fault.kind.on
            if on == FRAME or (on == SOCKET and not fault.at_once):
                matches = not fault.path or fault.path in (stream, event) or socket_path.startswith(fault.path)
                if matches and fault.strikes(self._draws, place):
                    return fault
        return None

    def of_minute(self) -> list[Fault]:
        """Return the market and account faults that act in this minute."""
        found = [(p, f) for p, f in enumerate(self.active) if f.kind.on == MARKET and not f.at_once]
        return [fault for place, fault in found if fault.strikes(self._draws, place)]

    def _duration(self, fault: Fault, place: int) -> int:
        """Draw a latency: `ms` is its median (lognormal, `sigma` wide), mean (uniform, from 0) or value (fixed)."""
        draw = self._draws.uniform("duration", place, fault.fault, fault.acted)
        match fault.get("shape"):
            case "uniform":
                return round(2 * draw * fault.span_ms)
            case "lognormal":
                other = self._draws.uniform("duration too", place, fault.fault, fault.acted)
                return round(fault.span_ms * lognormal(draw, other, float(fault.get("sigma"))))
        return fault.span_ms


def lognormal(first: float, second: float, sigma: float) -> float:
    """Return a log-normal number of median 1 from two uniform ones (Box-Muller).

    >>> round(lognormal(0.5, 0.25, 0.8), 6), lognormal(0.5, 0.0, 0.8) > 1
    (1.0, True)
    """
    return exp(sigma * sqrt(-2 * log(1 - first)) * cos(2 * pi * second))


def _request_matches(pattern: str, method: str, path: str) -> bool:
    if not pattern:
        return not path.startswith("/sim/")
    wanted_method, _, wanted = pattern.rpartition(" ")
    if wanted_method and wanted_method.upper() != method:
        return False
    return path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted
