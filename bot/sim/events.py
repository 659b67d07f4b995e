"""User stream events: orders, fills, wallet, positions, settings, conditional orders and warnings, as plain dicts.

Field names and shapes are those of venue notes 3: prices and quantities are strings, times are int ms. Two market
stream events, forceOrder and contractInfo, are built here too.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bot.sim.account import ZERO
from bot.sim.orders import Algo, VenueFill, VenueOrder

if TYPE_CHECKING:
    from bot.sim.venue import Venue

Json = dict[str, Any]


def money(amount: Decimal) -> str:
    """Format an amount with 8 decimals."""
    return f"{amount:.8f}"


def order_event(venue: "Venue", order: VenueOrder, x: str, fill: VenueFill | None = None) -> Json:
    """Return ORDER_TRADE_UPDATE.

    Parameters
    ----------
    x
        Execution type: NEW, TRADE, CALCULATED, CANCELED, EXPIRED or AMENDMENT.
    fill
        The fill to report, if any.
    """
    rules = venue.rules[order.symbol]
    bids = asks = ZERO
    for other in venue.open_orders(order.symbol):
        notional = rules.notional(other.left * other.price)
        if other.buy:
            bids += notional
        else:
            asks += notional
    body: Json = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.tif,
        "q": f"{rules.qty(order.lots):f}",
        "p": f"{rules.price(order.price):f}",
        "ap": f"{rules.average(order.cost, order.filled):f}",
        "sp": f"{order.trigger:f}",
        "x": x,
        "X": order.status,
        "i": order.order_id,
        "l": f"{rules.qty(fill.lots):f}" if fill else "0",
        "z": f"{rules.qty(order.filled):f}",
        "L": f"{rules.price(fill.price):f}" if fill else "0",
        "T": venue.now_ms,
        "t": fill.trade_id if fill else 0,
        "b": f"{bids:f}",
        "a": f"{asks:f}",
        "m": bool(fill and fill.maker),
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": order.orig_type or order.type,
        "ps": "BOTH",
        "cp": order.close_position,
        "rp": f"{fill.realized:f}" if fill else "0",
        "pP": order.price_protect,
        "si": 0,
        "ss": 0,
        "V": order.stp,
        "pm": order.price_match,
        "gtd": order.gtd,
        "er": order.er,
    }
    if fill is not None:
        body["N"], body["n"] = "USDT", f"{fill.fee:f}"
    if order.amends:
        body["M"] = order.amends
    if order.algo is not None and order.algo.callback:
        body["AP"], body["cr"] = f"{order.algo.activate:f}", f"{order.algo.callback:f}"
    return {"e": "ORDER_TRADE_UPDATE", "E": venue.now_ms, "T": venue.now_ms, "o": body}


def trade_lite(venue: "Venue", fill: VenueFill) -> Json:
    """Return TRADE_LITE, the short event that precedes ORDER_TRADE_UPDATE."""
    rules, order = venue.rules[fill.order.symbol], fill.order
    return {
        "e": "TRADE_LITE",
        "E": venue.now_ms,
        "T": fill.at_ms,
        "s": order.symbol,
        "q": f"{rules.qty(order.lots):f}",
        "p": f"{rules.price(order.price):f}",
        "m": fill.maker,
        "c": order.client_id,
        "S": order.side,
        "L": f"{rules.price(fill.price):f}",
        "l": f"{rules.qty(fill.lots):f}",
        "t": fill.trade_id,
        "i": order.order_id,
    }


def account_event(venue: "Venue", reason: str, *, symbols: tuple[str, ...] = (), change: Decimal = ZERO) -> Json:
    """Return ACCOUNT_UPDATE with the wallet and the positions that changed.

    Parameters
    ----------
    reason
        Binance's reason, such as ORDER or FUNDING_FEE.
    symbols
        Symbols of the changed positions.
    change
        Balance change other than PnL and commission, USDT.
    """
    positions = []
    for symbol in symbols:
        p = venue.account.positions[symbol]
        positions.append(
            {
                "s": symbol,
                "pa": f"{p.qty:f}",
                "ep": f"{p.entry.normalize():f}",
                "bep": f"{p.entry.normalize():f}",
                "cr": f"{p.realized:f}",
                "up": money(p.unrealized(venue.mark(symbol))),
                "mt": "isolated" if p.isolated else "cross",
                "iw": money(p.isolated_wallet),
                "ps": "BOTH",
                "ma": "USDT",
            }
        )
    account = venue.account
    balance = {"a": venue.asset, "wb": money(account.wallet), "cw": money(account.cross_wallet), "bc": f"{change:f}"}
    body = {"m": reason, "B": [balance], "P": positions}
    return {"e": "ACCOUNT_UPDATE", "E": venue.now_ms, "T": venue.now_ms, "a": body}


def leverage_event(venue: "Venue", symbol: str) -> Json:
    """Return ACCOUNT_CONFIG_UPDATE of a symbol's leverage."""
    config = {"s": symbol, "l": venue.account.positions[symbol].leverage}
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": venue.now_ms, "T": venue.now_ms, "ac": config}


def margin_call(venue: "Venue", symbol: str) -> Json:
    """Return MARGIN_CALL for one position."""
    p, mark = venue.account.positions[symbol], venue.mark(symbol)
    row = {
        "s": symbol,
        "ps": "BOTH",
        "pa": f"{p.qty:f}",
        "mt": "ISOLATED" if p.isolated else "CROSSED",
        "iw": money(p.isolated_wallet),
        "mp": f"{mark:f}",
        "up": money(p.unrealized(mark)),
        "mm": money(p.maintenance(mark)),
    }
    cross = {} if p.isolated else {"cw": money(venue.account.cross_wallet)}  # for cross positions only (venue notes 3)
    return {"e": "MARGIN_CALL", "E": venue.now_ms, **cross, "p": [row]}


def algo_event(venue: "Venue", algo: Algo) -> Json:
    """Return ALGO_UPDATE; fields that are unknown before the trigger are omitted."""
    rules = venue.rules[algo.symbol]
    body: Json = {
        "caid": algo.client_id,
        "aid": algo.algo_id,
        "at": "CONDITIONAL",
        "o": algo.type,
        "s": algo.symbol,
        "S": algo.side,
        "ps": "BOTH",
        "f": algo.tif,
        "q": f"{rules.qty(algo.lots):f}" if algo.lots else "0",
        "X": algo.status,
        "ai": str(algo.order.order_id) if algo.order else "",
        "tp": f"{algo.trigger:f}",
        "p": f"{rules.price(algo.price):f}" if algo.price else "0",
        "V": algo.stp,
        "wt": algo.working_type,
        "pm": algo.price_match,
        "cp": algo.close_position,
        "pP": algo.price_protect,
        "R": algo.reduce_only,
        "tt": algo.triggered_ms,
        "gtd": algo.gtd,
    }
    if algo.callback:
        body["ia"] = bool(algo.extreme)
    if algo.order is not None:
        order = algo.order
        body["ap"] = f"{rules.average(order.cost, order.filled):f}"
        body["aq"] = f"{rules.qty(order.filled):f}"
        body["act"] = order.type
    if algo.reject:
        body["rm"] = algo.reject
    return {"e": "ALGO_UPDATE", "T": venue.now_ms, "E": venue.now_ms, "o": body}


def multi_assets_event(venue: "Venue", on: bool) -> Json:
    """Return ACCOUNT_CONFIG_UPDATE of the asset mode."""
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": venue.now_ms, "T": venue.now_ms, "ai": {"j": on}}


def force_order(venue: "Venue", fill: VenueFill) -> Json:
    """Return forceOrder, the market stream's event of a liquidation."""
    rules, order = venue.rules[fill.order.symbol], fill.order
    body = {
        "s": order.symbol,
        "S": order.side,
        "o": "LIMIT",
        "f": "IOC",
        "q": f"{rules.qty(order.lots):f}",
        "p": f"{rules.price(order.price):f}",
        "ap": f"{rules.price(fill.price):f}",
        "X": order.status,
        "l": f"{rules.qty(fill.lots):f}",
        "z": f"{rules.qty(order.filled):f}",
        "T": fill.at_ms,
    }
    return {"e": "forceOrder", "E": venue.now_ms, "o": body}


def amendment(venue: "Venue", order: VenueOrder, before: tuple[int, int]) -> Json:
    """Return an orderAmendment row: price and quantity before and after."""
    rules, (price, lots) = venue.rules[order.symbol], before
    return {
        "amendmentId": 5_000 + len(venue.amendments),
        "symbol": order.symbol,
        "pair": order.symbol,
        "orderId": order.order_id,
        "clientOrderId": order.client_id,
        "time": venue.now_ms,
        "amendment": {
            "price": {"before": f"{rules.price(price):f}", "after": f"{rules.price(order.price):f}"},
            "origQty": {"before": f"{rules.qty(lots):f}", "after": f"{rules.qty(order.lots):f}"},
            "count": order.amends,
        },
        "priceMatch": order.price_match,
    }


def contract_info(venue: "Venue", symbol: str) -> Json:
    """Return contractInfo, the market stream's event of a change of status or filters."""
    return {
        "e": "contractInfo",
        "E": venue.now_ms,
        "s": symbol,
        "ps": symbol,
        "ct": "PERPETUAL",
        "dt": 4133404800000,
        "ot": 1569398400000,
        "cs": venue.rules[symbol].status,
    }
