"""Public market data by REST, answered from the replay."""

from typing import TYPE_CHECKING, Any, Final

from bot.sim import entry
from bot.sim.errors import Refused
from bot.sim.filters import WHOLE
from bot.sim.funding import write_rate
from bot.sim.limits import ORDERS_MINUTE, ORDERS_TEN, WEIGHT_LIMIT
from bot.sim.tickers import day_row

if TYPE_CHECKING:
    from bot.sim.server import Exchange

Params = dict[str, str]
MAX_KLINES: Final = 1_500


class PublicApi:
    """Handlers by `METHOD path`."""

    def __init__(self, exchange: "Exchange") -> None:
        self._x = exchange
        self.routes = {
            "GET /fapi/v1/ping": self.ping,
            "GET /api/v3/ping": self.ping,
            "GET /fapi/v1/time": self.time,
            "GET /api/v3/time": self.time,
            "GET /fapi/v1/exchangeInfo": self.exchange_info,
            "GET /fapi/v1/klines": self.klines,
            "GET /fapi/v1/continuousKlines": self.klines,
            "GET /fapi/v1/markPriceKlines": self.price_klines,
            "GET /fapi/v1/indexPriceKlines": self.price_klines,
            "GET /fapi/v1/premiumIndexKlines": self.premium_klines,
            "GET /fapi/v1/trades": self.trades,
            "GET /fapi/v1/historicalTrades": self.trades,
            "GET /fapi/v1/aggTrades": self.agg_trades,
            "GET /fapi/v1/openInterest": self.open_interest,
            "GET /fapi/v1/premiumIndex": self.premium_index,
            "GET /fapi/v1/fundingInfo": self.funding_info,
            "GET /fapi/v1/fundingRate": self.funding_rate,
            "GET /fapi/v1/ticker/bookTicker": self.book_ticker,
            "GET /fapi/v1/ticker/24hr": self.day_ticker,
            "GET /fapi/v1/ticker/price": self.price_ticker,
            "GET /fapi/v2/ticker/price": self.price_ticker,
            "GET /fapi/v1/depth": self.depth,
        }

    def ping(self, params: Params) -> Any:
        """Return an empty object."""
        return {}

    def time(self, params: Params) -> Any:
        """Return the exchange's time."""
        return {"serverTime": self._x.clock.now_ms() + self._x.drift_ms}

    def exchange_info(self, params: Params) -> Any:
        """Return all symbols; a `symbol` parameter is ignored, as at the real exchange."""
        limits = [("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_LIMIT), ("ORDERS", "MINUTE", 1, ORDERS_MINUTE),
                  ("ORDERS", "SECOND", 10, ORDERS_TEN)]  # fmt: skip
        return {
            "timezone": "UTC",
            "serverTime": self._x.clock.now_ms() + self._x.drift_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {"rateLimitType": kind, "interval": unit, "intervalNum": n, "limit": limit}
                for kind, unit, n, limit in limits
            ],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [rules.exchange_info() for rules in self._x.venue.rules.values()],
        }

    def klines(self, params: Params) -> Any:
        """Return klines, oldest first; the last may be forming.

        Raises
        ------
        Refused
            -1130 if the limit is out of range.
        """
        symbol = self._x.venue.symbol_of({"symbol": params.get("symbol") or params.get("pair", "")})
        start, end, limit = whole(params, "startTime"), whole(params, "endTime"), whole(params, "limit")
        if limit is not None and not 1 <= limit <= MAX_KLINES:
            raise Refused(-1130, "limit")
        interval = entry.required(params, "interval")
        candles, now = self._x.candles[symbol], self._x.clock.now_ms()
        return candles.rows(interval, start=start, end=end, limit=limit or 500, now_ms=now)

    def price_klines(self, params: Params) -> Any:
        """Return klines of mark or index, which here are the last price: without volumes."""
        return [[*row[:5], "0", row[6], "0", row[8], "0", "0", "0"] for row in self.klines(params)]

    def premium_klines(self, params: Params) -> Any:
        """Return klines of the premium, which is 0 here."""
        return [[row[0], *["0.00000000"] * 4, "0", row[6], "0", row[8], "0", "0", "0"] for row in self.klines(params)]

    def trades(self, params: Params) -> Any:
        """Return the last trades, oldest first."""
        tape, limit = self._x.tapes[self._x.venue.symbol_of(params)], _limit(params, 500)
        first = whole(params, "fromId")
        found = [p for p in tape.prints if first is None or p.last >= first]
        return [tape.trade(p) for p in (found[-limit:] if first is None else found[:limit])]

    def agg_trades(self, params: Params) -> Any:
        """Return aggregate trades, oldest first; only the last thousand are kept."""
        tape, limit = self._x.tapes[self._x.venue.symbol_of(params)], _limit(params, 500)
        first, start, end = whole(params, "fromId"), whole(params, "startTime"), whole(params, "endTime")
        found = [
            p
            for p in tape.prints
            if (first is None or p.number >= first)
            and (start is None or p.at_ms >= start)
            and (end is None or p.at_ms <= end)
        ]
        return [tape.row(p) for p in (found[-limit:] if first is None and start is None else found[:limit])]

    def open_interest(self, params: Params) -> Any:
        """Return the open interest: the user's own, since there is no other trader."""
        symbol, now = self._x.venue.symbol_of(params), self._x.clock.now_ms()
        return {
            "openInterest": f"{abs(self._x.venue.account.positions[symbol].qty):f}",
            "symbol": symbol,
            "time": now,
        }

    def premium_index(self, params: Params) -> Any:
        """Return mark price and funding."""
        return self._each(params, self._premium)

    def _premium(self, symbol: str) -> Any:
        now, mark = self._x.clock.now_ms(), f"{self._x.venue.mark(symbol):.8f}"
        next_ms, rate = self._x.funding[symbol].next(now)
        return {
            "symbol": symbol,
            "markPrice": mark,
            "indexPrice": mark,
            "estimatedSettlePrice": mark,
            "lastFundingRate": write_rate(rate),
            "interestRate": "0.00010000",
            "nextFundingTime": next_ms,
            "time": now,
        }

    def funding_info(self, params: Params) -> Any:
        """Return the symbols with an adjusted funding interval: those that do not pay every 8 hours."""
        now = self._x.clock.now_ms()
        hours = {symbol: schedule.interval_hours(now) for symbol, schedule in self._x.funding.items()}
        return [
            {
                "symbol": symbol,
                "adjustedFundingRateCap": "0.00300000",
                "adjustedFundingRateFloor": "-0.00300000",
                "fundingIntervalHours": hours[symbol],
                "disclaimer": False,
                "updateTime": now,
            }
            for symbol in hours
            if hours[symbol] != 8
        ]

    def funding_rate(self, params: Params) -> Any:
        """Return past funding payments."""
        now, limit = self._x.clock.now_ms(), whole(params, "limit") or 100
        start, end = whole(params, "startTime"), min(whole(params, "endTime") or now, now)
        symbols = [self._x.venue.symbol_of(params)] if params.get("symbol") else list(self._x.venue.rules)
        rows = [
            {"symbol": symbol, "fundingTime": time, "fundingRate": write_rate(rate), "markPrice": "", "rateType": "8h"}
            for symbol in symbols
            for time, rate in self._x.funding[symbol].history(start, end, min(limit, 1000))
        ]
        return sorted(rows, key=lambda row: row["fundingTime"])

    def book_ticker(self, params: Params) -> Any:
        """Return the best prices."""
        return self._each(params, self._book)

    def _book(self, symbol: str) -> Any:
        book, rules = self._x.venue.books[symbol], self._x.venue.rules[symbol]
        return {
            "symbol": symbol,
            "bidPrice": f"{rules.price(book.bid):f}",
            "bidQty": f"{rules.qty(book.bid_lots):f}",
            "askPrice": f"{rules.price(book.ask):f}",
            "askQty": f"{rules.qty(book.ask_lots):f}",
            "time": self._x.clock.now_ms(),
            "lastUpdateId": self._x.clock.now_ms(),
        }

    def depth(self, params: Params) -> Any:
        """Return the book: one level per side."""
        symbol = self._x.venue.symbol_of(params)
        book, rules, now = self._x.venue.books[symbol], self._x.venue.rules[symbol], self._x.clock.now_ms()
        return {
            "lastUpdateId": now,
            "E": now,
            "T": now,
            "bids": [[f"{rules.price(book.bid):f}", f"{rules.qty(book.bid_lots):f}"]],
            "asks": [[f"{rules.price(book.ask):f}", f"{rules.qty(book.ask_lots):f}"]],
        }

    def price_ticker(self, params: Params) -> Any:
        """Return the last price."""
        now = self._x.clock.now_ms()
        return self._each(params, lambda s: {"symbol": s, "price": f"{self._x.venue.mark(s):f}", "time": now})

    def day_ticker(self, params: Params) -> Any:
        """Return the statistics of the last 24 hours."""
        now = self._x.clock.now_ms()
        return self._each(params, lambda s: day_row(self._x.venue, self._x.candles[s], s, at_ms=now))

    def _each(self, params: Params, one: Any) -> Any:
        if params.get("symbol"):
            return one(self._x.venue.symbol_of(params))
        return [one(symbol) for symbol in self._x.venue.rules]


def whole(params: Params, name: str) -> int | None:
    """Parse an integer parameter; None if absent.

    Raises
    ------
    Refused
        -1100 if it is malformed.
    """
    text = params.get(name, "")
    if text == "":
        return None
    if not WHOLE.fullmatch(text):
        raise Refused(-1100, name)
    return int(text)


def _limit(params: Params, default: int) -> int:
    limit = whole(params, "limit") or default
    if not 1 <= limit <= 1000:
        raise Refused(-1130, "limit")
    return limit
