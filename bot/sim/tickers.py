"""Statistics of a symbol's last 24 hours, for REST (ticker/24hr) and streams (ticker, miniTicker)."""

from typing import TYPE_CHECKING, Any

from bot.core.times import DAY_MS
from bot.sim.candles import Candles, write

if TYPE_CHECKING:
    from bot.sim.venue import Venue


def day_row(venue: "Venue", candles: Candles, symbol: str, *, at_ms: int) -> dict[str, Any]:
    """Return a ticker/24hr row.

    Parameters
    ----------
    candles
        The symbol's klines.
    at_ms
        End of the 24 hours, UTC epoch ms.
    """
    rules, last = venue.rules[symbol], venue.mark(symbol)
    bar = candles.day(at_ms)
    opened = bar.open if bar is not None else float(last)
    change = float(last) - opened
    digits, lots = rules.price_digits, rules.qty_digits
    volume, quote = (bar.volume, bar.quote) if bar is not None else (0.0, 0.0)
    return {
        "symbol": symbol,
        "priceChange": f"{change:.{digits}f}",
        "priceChangePercent": f"{100 * change / opened:.3f}",
        "weightedAvgPrice": f"{quote / volume if volume else float(last):.{digits}f}",
        "lastPrice": f"{last:f}",
        "lastQty": "0",
        "openPrice": write(opened, digits),
        "highPrice": write(bar.high if bar is not None else float(last), digits),
        "lowPrice": write(bar.low if bar is not None else float(last), digits),
        "volume": f"{volume:.{lots}f}",
        "quoteVolume": f"{quote:.2f}",
        "openTime": at_ms - DAY_MS,
        "closeTime": at_ms,
        "firstId": 0,
        "lastId": 0,
        "count": bar.trades if bar is not None else 0,
    }


def day_event(venue: "Venue", candles: Candles, symbol: str, event: str, *, at_ms: int) -> dict[str, Any]:
    """Return a ticker event.

    Parameters
    ----------
    candles
        The symbol's klines.
    event
        24hrTicker or 24hrMiniTicker.
    at_ms
        End of the 24 hours, UTC epoch ms.
    """
    row = day_row(venue, candles, symbol, at_ms=at_ms)
    short = {"c": "lastPrice", "o": "openPrice", "h": "highPrice", "l": "lowPrice", "v": "volume", "q": "quoteVolume"}
    more = {"p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "Q": "lastQty", "O": "openTime",
            "C": "closeTime", "F": "firstId", "L": "lastId", "n": "count"}  # fmt: skip
    names = short if event == "24hrMiniTicker" else short | more
    return {"e": event, "E": at_ms, "s": symbol} | {key: row[name] for key, name in names.items()} | {"st": 1}
