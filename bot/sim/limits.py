"""Request weights and order counts, on the exchange's clock (venue notes 2.11).

2,400 weight per minute, 1,200 orders per minute and 300 per ten seconds; funding history has its own window, 500
requests per five minutes. Above a limit: 429 until the window rolls; a client that keeps sending is banned with 418,
for two minutes, and four times as long with each further ban, up to three days.
"""

from typing import Final

from bot.core.times import DAY_MS
from bot.sim.errors import Refused
from bot.sim.filters import WHOLE

WEIGHT_LIMIT: Final = 2_400
ORDERS_MINUTE: Final = 1_200
ORDERS_TEN: Final = 300
PATIENCE: Final = 100  # rejected requests in a window before the ban
BAN_MS: Final = 120_000
LONGEST_BAN_MS: Final = 3 * DAY_MS
FUNDING_LIMIT: Final = 500
FUNDING_PATHS: Final = ("/fapi/v1/fundingRate", "/fapi/v1/fundingInfo")

_BY_PATH: Final = {
    "GET /fapi/v1/openOrders": (1, 40),
    "GET /fapi/v1/openAlgoOrders": (1, 40),
    "GET /fapi/v1/premiumIndex": (1, 10),
    "GET /fapi/v1/ticker/bookTicker": (2, 5),
    "GET /fapi/v1/ticker/24hr": (1, 40),
    "GET /fapi/v1/ticker/price": (1, 2),
}
_FIXED: Final = {
    "POST /fapi/v1/order": 0,
    "POST /fapi/v1/algoOrder": 0,
    "PUT /fapi/v1/order": 0,
    "POST /fapi/v1/batchOrders": 5,
    "PUT /fapi/v1/batchOrders": 5,
    "POST /fapi/v1/countdownCancelAll": 10,
    "GET /fapi/v1/fundingRate": 0,
    "GET /fapi/v1/fundingInfo": 0,
    "GET /fapi/v1/aggTrades": 20,
    "GET /fapi/v1/historicalTrades": 20,
    "GET /fapi/v1/trades": 5,
    "GET /fapi/v1/forceOrders": 20,
    "GET /fapi/v1/adlQuantile": 5,
    "GET /fapi/v1/feeBurn": 30,
    "WS handshake": 5,
    "GET /fapi/v1/positionSide/dual": 30,
    "GET /fapi/v1/multiAssetsMargin": 30,
    "GET /fapi/v1/income": 30,
    "GET /fapi/v1/userTrades": 5,
    "GET /fapi/v1/allOrders": 5,
    "GET /fapi/v1/allAlgoOrders": 5,
    "GET /fapi/v1/commissionRate": 20,
    "GET /fapi/v1/symbolConfig": 5,
    "GET /fapi/v1/accountConfig": 5,
    "GET /fapi/v1/account": 5,
    "GET /fapi/v1/balance": 5,
    "GET /fapi/v1/positionRisk": 5,
}


def weight_of(method: str, path: str, params: dict[str, str]) -> int:
    """Return the weight of a request.

    >>> weight_of("GET", "/fapi/v1/klines", {"limit": "1500"}), weight_of("GET", "/fapi/v1/openOrders", {})
    (10, 40)
    """
    key = f"{method} {path}".replace("/v2/", "/v1/").replace("/v3/", "/v1/")
    if key in _BY_PATH:
        return _BY_PATH[key]["symbol" not in params]
    if key == "GET /fapi/v1/forceOrders":
        return 50 if "symbol" not in params else 20
    if key.endswith(("/klines", "Klines")):
        limit = _limit(params, 500)
        return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10
    if key.endswith("/depth"):
        limit = _limit(params, 500)
        return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20
    return _FIXED.get(key, 0 if path.startswith("/sim/") else 1)


def _limit(params: dict[str, str], default: int) -> int:
    text = params.get("limit", "")
    return int(text) if WHOLE.fullmatch(text) else default


class Window:
    """A counter that resets with every window of the clock."""

    __slots__ = ("_length", "_start", "used")

    def __init__(self, length_ms: int) -> None:
        self._length, self._start, self.used = length_ms, -1, 0

    def roll(self, now_ms: int) -> int:
        """Reset the counter if a new window has begun; return the ms left in the window."""
        start = now_ms - now_ms % self._length
        if start != self._start:
            self._start, self.used = start, 0
        return start + self._length - now_ms


class RateLimits:
    """The rate limit windows of one client."""

    def __init__(self) -> None:
        self.weight, self.minute, self.ten = Window(60_000), Window(60_000), Window(10_000)
        self._funding, self._refused = Window(300_000), Window(60_000)
        self._banned_until, self._bans = 0, 0

    def charge(self, weight: int, now_ms: int, path: str = "") -> tuple[Refused, int] | None:
        """Count a request; if it exceeds a limit, return the rejection and the ms to wait."""
        left = self.weight.roll(now_ms)
        self._refused.roll(now_ms)
        if now_ms < self._banned_until:
            text = f"Way too many requests; IP banned until {self._banned_until}. Please use the websocket."
            return Refused(-1003, status=418, text=text), self._banned_until - now_ms
        self.weight.used += weight
        if path in FUNDING_PATHS:
            until_ms = self._funding.roll(now_ms)
            self._funding.used += 1
            if self._funding.used > FUNDING_LIMIT:
                return Refused(-1003, FUNDING_LIMIT), until_ms
        if self.weight.used <= WEIGHT_LIMIT:
            return None
        self._refused.used += 1
        if self._refused.used > PATIENCE:
            self.ban(now_ms, min(BAN_MS * 4**self._bans, LONGEST_BAN_MS))
        return Refused(-1003, WEIGHT_LIMIT), left

    def ban(self, now_ms: int, ms: int) -> None:
        """Reject everything with 418 for `ms`."""
        self._banned_until = now_ms + ms
        self._bans += 1

    def order(self, now_ms: int, orders: int = 1) -> None:
        """Count new or amended orders; a batch counts as one per minute and as its orders per ten seconds.

        Raises
        ------
        Refused
            -1015 above a limit.
        """
        self.minute.roll(now_ms)
        self.ten.roll(now_ms)
        if self.ten.used + orders > ORDERS_TEN:
            raise Refused(-1015, ORDERS_TEN, "10 SECOND")
        if self.minute.used + 1 > ORDERS_MINUTE:
            raise Refused(-1015, ORDERS_MINUTE, "1 MINUTE")
        self.minute.used += 1
        self.ten.used += orders

    def headers(self, now_ms: int) -> dict[str, str]:
        """Return the headers carried by every reply."""
        self.weight.roll(now_ms)
        return {"X-MBX-USED-WEIGHT-1M": str(self.weight.used)}

    def order_headers(self, now_ms: int) -> dict[str, str]:
        """Return the headers of a reply to a new order."""
        self.minute.roll(now_ms)
        self.ten.roll(now_ms)
        return {"X-MBX-ORDER-COUNT-10S": str(self.ten.used), "X-MBX-ORDER-COUNT-1M": str(self.minute.used)}

    def rates(self, now_ms: int) -> list[dict[str, object]]:
        """Return `rateLimits` as replies of the WebSocket API carry it: limits and their usage."""
        self.weight.roll(now_ms)
        self.minute.roll(now_ms)
        self.ten.roll(now_ms)
        rows = (
            ("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_LIMIT, self.weight.used),
            ("ORDERS", "SECOND", 10, ORDERS_TEN, self.ten.used),
            ("ORDERS", "MINUTE", 1, ORDERS_MINUTE, self.minute.used),
        )
        return [
            {"rateLimitType": kind, "interval": unit, "intervalNum": n, "limit": limit, "count": used}
            for kind, unit, n, limit, used in rows
        ]
