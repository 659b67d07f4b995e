"""The table of faults: what each acts on and which fields it takes."""

from dataclasses import dataclass
from typing import Any, Final

from bot.sim.errors import Refused

WRITE, REQUEST, READ, FRAME, PUSH, SOCKET, MARKET = "write", "request", "read", "frame", "push", "socket", "market"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a fault acts on, its default `ms`, and the fields it takes besides the common ones (with their defaults)."""

    on: str
    ms: int = 0
    more: tuple[tuple[str, Any], ...] = ()


SYMBOL: Final = ("symbol", "")
KINDS: Final[dict[str, Kind]] = {
    # execution status unknown to the client
    "http_503_executed": Kind(WRITE),
    "http_503_not_executed": Kind(WRITE),
    "unknown_1006_executed": Kind(WRITE),
    "unknown_1006_not_executed": Kind(WRITE),
    "timeout_1007_executed": Kind(WRITE),
    "timeout_1007_not_executed": Kind(WRITE),
    "http_502_executed": Kind(WRITE),
    "lost_reply": Kind(WRITE, 30_000),
    "lost_request": Kind(REQUEST, 30_000),
    # certainly not executed
    "http_503_unavailable": Kind(REQUEST),
    "internal_1001": Kind(REQUEST),
    "overload_1008": Kind(WRITE),
    "http_502_html": Kind(REQUEST),
    "http_403": Kind(REQUEST),
    "http_429": Kind(REQUEST, 1_000),
    "http_418": Kind(REQUEST, 120_000),
    "error": Kind(REQUEST, more=(("code", -1001),)),
    # late, stale
    "late_reply": Kind(REQUEST, 3_000),
    "latency": Kind(REQUEST, 200, (("shape", "lognormal"), ("sigma", 0.8))),
    "stale_reads": Kind(READ, 2_000),
    # races between a cancel and the market
    "cancel_race": Kind(WRITE, more=(("share", 0.5),)),
    "cancel_filled": Kind(WRITE),
    # frames
    "drop_event": Kind(FRAME),
    "duplicate_event": Kind(FRAME),
    "reorder_events": Kind(FRAME),
    "delay_event": Kind(FRAME, 1_000),
    "push_latency": Kind(PUSH, 200, (("shape", "lognormal"), ("sigma", 0.8))),
    # sockets
    "close_sockets": Kind(SOCKET, 1_000),
    "disconnect_storm": Kind(SOCKET, 5_000, (("times", 4),)),
    "silent_stream": Kind(SOCKET),
    "half_open": Kind(SOCKET),
    "listen_key_expired": Kind(SOCKET),
    # market and account
    "price_gap": Kind(MARKET, 0, (SYMBOL, ("percent", -2.0))),
    "thin_book": Kind(MARKET, 60_000, (SYMBOL, ("share", 0.05))),
    "liquidation": Kind(MARKET, more=(SYMBOL,)),
    "adl": Kind(MARKET, more=(SYMBOL, ("share", 1.0))),
    "settlement": Kind(MARKET, more=(SYMBOL,)),
    "symbol_status": Kind(MARKET, 60_000, (SYMBOL, ("status", "PENDING_TRADING"))),
    "filter_change": Kind(MARKET, more=(SYMBOL, ("tick", ""), ("step", ""), ("min_notional", ""))),
    "funding_interval": Kind(MARKET, more=(SYMBOL, ("hours", 4), ("funding_rate", ""))),
    "clock_drift": Kind(MARKET, more=(("offset", 2_000),)),
}
NAMES: Final = frozenset(KINDS)
COMMON: Final = ("fault", "path", "after", "count", "ms", "rate")
SHAPES: Final = ("lognormal", "uniform", "fixed")
STATUSES: Final = ("PENDING_TRADING", "SETTLING", "TRADING")


def check_field(name: str, field_name: str, value: object, default: object) -> None:
    """Reject a fault field of the wrong type or range.

    Parameters
    ----------
    name
        Name of the fault.
    field_name, value
        The field and its value as posted.
    default
        The kind's default, whose type the value must have.

    Raises
    ------
    Refused
        -1130 with a text that says what the field must be.
    """
    choices = {"shape": SHAPES, "status": STATUSES}.get(field_name)
    if choices is not None:
        right, wanted = value in choices, "one of " + ", ".join(choices)
    elif isinstance(default, str):
        right, wanted = isinstance(value, str), 'a string such as "BTCUSDT" or "0.10"'
    else:
        right, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
        if isinstance(default, int):
            right, wanted = right and isinstance(value, int), "a whole number"
    if right and field_name == "share":
        assert isinstance(value, (int, float))
        right, wanted = 0 < value <= 1, "above 0 and at most 1"
    if right and field_name == "hours":
        right, wanted = value in (1, 2, 4, 8), "1, 2, 4 or 8"
    if not right:
        raise Refused(-1130, text=f"{field_name} of fault {name} must be {wanted}, not {value!r}")
