"""What a paper exchange reads from the live one at its start: time, filters and last bars of each symbol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import aiohttp

from bot.core.errors import BotError
from bot.core.klines import Klines, make_klines
from bot.core.times import DAY_MS, MINUTE_MS
from bot.sim.filters import SymbolRules, rules_for

HISTORY_BARS: Final = 60  # 1m bars for the first price
YEARS_MS: Final = 3_650 * DAY_MS


@dataclass(frozen=True, slots=True)
class Upstream:
    """The live exchange at the start: its time, the filters, and the last bars of each symbol."""

    rest_url: str
    stream_url: str
    now_ms: int
    speed: float
    rules: dict[str, SymbolRules]
    bars: dict[str, dict[str, Klines]]


async def look_up(
    session: aiohttp.ClientSession, rest_url: str, stream_url: str, symbols: Sequence[str], *, speed: float = 1.0
) -> Upstream:
    """Read the initial state of a paper exchange.

    Parameters
    ----------
    rest_url, stream_url
        Addresses of the live exchange.
    speed
        Exchange seconds per second of wall time.

    Raises
    ------
    BotError
        The live exchange does not answer, does not list a symbol or has no bars of it.
    """
    rest = rest_url.rstrip("/")

    async def get(path: str, **params: str) -> Any:
        try:
            async with session.get(f"{rest}{path}", params=params) as reply:
                if reply.status != 200:
                    raise BotError(f"the live exchange at {rest} refuses {path}: HTTP {reply.status}")
                return await reply.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise BotError(f"the live exchange at {rest} does not answer: {type(error).__name__}") from None

    listed = {str(line["symbol"]): line for line in (await get("/fapi/v1/exchangeInfo"))["symbols"]}
    if missing := [symbol for symbol in symbols if symbol not in listed]:
        raise BotError(f"the live exchange does not list {', '.join(missing)}: check data.symbols")
    rules, bars = {}, {}
    now_ms = int((await get("/fapi/v1/time"))["serverTime"])
    for symbol in symbols:
        rows = await get("/fapi/v1/klines", symbol=symbol, interval="1m", limit=str(HISTORY_BARS))
        if not rows:
            raise BotError(f"the live exchange has no bars of {symbol}")
        rules[symbol] = rules_of(listed[symbol], float(rows[-1][4]))
        bars[symbol] = {"1m": _bars(symbol, rows, now_ms)}
    # aiohttp treats http like ws in an address, but finds the environment's proxies only for http.
    stream = f"http{stream_url.rstrip('/').removeprefix('ws')}"
    return Upstream(rest, stream, int((await get("/fapi/v1/time"))["serverTime"]), speed, rules, bars)


def rules_of(info: Mapping[str, Any], price: float) -> SymbolRules:
    """Return a symbol's rules with the filters of a live exchangeInfo."""
    filters = {str(line["filterType"]): line for line in info["filters"]}
    lot, tick = filters["LOT_SIZE"], filters["PRICE_FILTER"]
    band = filters.get("PERCENT_PRICE", {})
    known = rules_for(str(info["symbol"]), price)
    return replace(
        known,
        tick=_plain(tick["tickSize"]),
        price_digits=int(info["pricePrecision"]),
        step=_plain(lot["stepSize"]),
        qty_digits=int(info["quantityPrecision"]),
        min_price=Decimal(tick["minPrice"]),
        max_price=Decimal(tick["maxPrice"]),
        max_qty=Decimal(lot["maxQty"]),
        market_max_qty=Decimal(filters.get("MARKET_LOT_SIZE", lot)["maxQty"]),
        min_notional=Decimal(filters["MIN_NOTIONAL"]["notional"]),
        percent_up=Decimal(band.get("multiplierUp", known.percent_up)),
        percent_down=Decimal(band.get("multiplierDown", known.percent_down)),
    )


def _plain(text: str) -> Decimal:
    value = Decimal(text).normalize()
    exponent = value.as_tuple().exponent
    return value.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else value


def _bars(symbol: str, rows: list[list[Any]], now_ms: int) -> Klines:
    """Return the closed bars, and one far in the future that keeps the clock running: live data fill the gap."""
    names = ("open", "high", "low", "close", "volume")
    closed = [row for row in rows if int(row[0]) + MINUTE_MS <= now_ms] or rows[:1]
    last = closed[-1]
    end_ms = (now_ms + YEARS_MS) // MINUTE_MS * MINUTE_MS
    columns: dict[str, Any] = {"open_ms": [int(row[0]) for row in closed] + [end_ms]}
    for index, name in enumerate(names, start=1):
        columns[name] = [float(row[index]) for row in closed] + [float(last[4]) if index < 5 else 0.0]
    return make_klines(symbol, MINUTE_MS, columns=columns)
