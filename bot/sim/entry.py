"""Parsing of order requests: parameters as Binance names them, checked in its order, with its error codes.

Only the request itself and the symbol's filters are checked here, not the market or the account.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bot.sim.errors import Refused
from bot.sim.filters import SymbolRules, number
from bot.sim.orders import CONDITIONAL

CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
TIMES_IN_FORCE: Final = ("GTC", "IOC", "FOK", "GTX", "GTD")
STP_MODES: Final = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
# Levels from the touch; OPPONENT_10 and OPPONENT_20 were withdrawn in 2025 (venue notes 2.6).
PRICE_MATCHES: Final = {"OPPONENT": 1, "OPPONENT_5": 5, "QUEUE": 1, "QUEUE_5": 5, "QUEUE_10": 10, "QUEUE_20": 20}
GTD_LEAST_MS: Final = 600_000
GTD_MOST_MS: Final = 253_402_300_799_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A parsed order request; quantities in lots, prices in ticks, `trigger` as given (it is not tick-checked)."""

    symbol: str
    buy: bool
    type: str
    tif: str
    lots: int
    price: int
    reduce_only: bool
    client_id: str
    result: bool  # newOrderRespType=RESULT
    stp: str = "EXPIRE_MAKER"
    close_position: bool = False
    trigger: Decimal = Decimal(0)
    working_type: str = "CONTRACT_PRICE"
    price_protect: bool = False
    callback: Decimal = Decimal(0)
    activate: Decimal = Decimal(0)
    price_match: str = "NONE"
    gtd: int = 0  # goodTillDate, ms


def required(params: dict[str, str], name: str) -> str:
    """Return a mandatory parameter.

    Raises
    ------
    Refused
        -1102 if it is missing or empty.
    """
    value = params.get(name, "")
    if value == "":
        raise Refused(-1102, name)
    return value


def flag(params: dict[str, str], name: str) -> bool:
    """Parse a boolean: the strings true and false, in any case; false if absent.

    Raises
    ------
    Refused
        -1130 for any other value.
    """
    text = params.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Refused(-1130, name)
    return text == "true"


def side(params: dict[str, str]) -> bool:
    """Return whether the request buys.

    Raises
    ------
    Refused
        -1117 for an invalid side, -4061 for a position side other than BOTH.
    """
    text = required(params, "side")
    if text not in ("BUY", "SELL"):
        raise Refused(-1117)
    if params.get("positionSide", "BOTH") != "BOTH":
        raise Refused(-4061)
    return text == "BUY"


def client_id(params: dict[str, str], name: str) -> str:
    """Return the client id, empty if none was sent.

    Raises
    ------
    Refused
        -4015 if it is malformed.
    """
    text = params.get(name, "")
    if text and not CLIENT_ID.fullmatch(text):
        raise Refused(-4015)
    return text


def _result(params: dict[str, str]) -> bool:
    text = params.get("newOrderRespType", "ACK")
    if text not in ("ACK", "RESULT"):
        raise Refused(-1130, "newOrderRespType")
    return text == "RESULT"


def _stp(params: dict[str, str]) -> str:
    text = params.get("selfTradePreventionMode", "EXPIRE_MAKER")
    if text not in STP_MODES:
        raise Refused(-5039)
    return text


def _price_match(params: dict[str, str], *, limit: bool) -> str:
    """Return the priceMatch of a request, NONE if the request has its own price."""
    text = params.get("priceMatch", "NONE")
    if text == "NONE":
        return text
    if text not in PRICE_MATCHES:
        raise Refused(-5037)
    if not limit:
        raise Refused(-5038)
    if params.get("price"):
        raise Refused(-1106, "price")
    return text


def _tif(params: dict[str, str], *, needed: bool, more: tuple[str, ...] = ()) -> str:
    text = params.get("timeInForce", "")
    if text == "":
        if needed:
            raise Refused(-1102, "timeInForce")
        return "GTC"
    if text not in (*TIMES_IN_FORCE, *more):
        raise Refused(-1115)
    return text


def _good_till(params: dict[str, str], tif: str, now_ms: int) -> int:
    """Return goodTillDate in ms, truncated to whole seconds as Binance does; 0 if the order is not GTD."""
    if tif != "GTD":
        return 0
    value = number(params, "goodTillDate", required=True)
    assert value is not None
    if not now_ms + GTD_LEAST_MS <= value < GTD_MOST_MS:
        raise Refused(-5040)
    return int(value) // 1000 * 1000


def regular(params: dict[str, str], rules: SymbolRules, *, now_ms: int = 0) -> Wanted:
    """Parse `POST /fapi/v1/order`.

    Raises
    ------
    Refused
        A parameter is missing, invalid or not allowed for this type, or violates a filter; -4120 for a conditional
        type.
    """
    buy = side(params)
    kind = required(params, "type")
    if kind in CONDITIONAL:
        raise Refused(-4120)
    if kind not in ("LIMIT", "MARKET"):
        raise Refused(-1116)
    for name in ("stopPrice", "closePosition", "activationPrice", "callbackRate"):
        if params.get(name, "false") not in ("false", "0", ""):
            raise Refused(-4120)
    limit = kind == "LIMIT"
    if not limit and params.get("timeInForce"):
        raise Refused(-1106, "timeInForce")
    tif = _tif(params, needed=limit)
    quantity = number(params, "quantity", required=True)
    match = _price_match(params, limit=limit)
    price = number(params, "price", required=limit and match == "NONE")
    assert quantity is not None
    lots = rules.lots(quantity, market=not limit)
    if not limit and price is not None:
        raise Refused(-1106, "price")
    ticks = rules.ticks(price) if price is not None else 0
    own_id = client_id(params, "newClientOrderId")
    return Wanted(
        rules.symbol,
        buy,
        kind,
        tif,
        lots,
        ticks,
        flag(params, "reduceOnly"),
        own_id,
        _result(params),
        stp=_stp(params),
        price_match=match,
        gtd=_good_till(params, tif, now_ms),
    )


def conditional(params: dict[str, str], rules: SymbolRules, *, now_ms: int = 0) -> Wanted:
    """Parse `POST /fapi/v1/algoOrder`.

    Raises
    ------
    Refused
        A parameter is missing, invalid or not allowed for this type, or violates a filter.
    """
    if required(params, "algoType") != "CONDITIONAL":
        raise Refused(-1130, "algoType")
    buy = side(params)
    kind = required(params, "type")
    if kind not in CONDITIONAL:
        raise Refused(-1116)
    market = kind.endswith("MARKET")
    trailing = kind == "TRAILING_STOP_MARKET"
    close = flag(params, "closePosition")
    if close:
        if not market or trailing:
            raise Refused(-1106, "closePosition")
        if "quantity" in params:
            raise Refused(-4137)
        if "reduceOnly" in params:
            raise Refused(-1106, "reduceOnly")
    tif = _tif(params, needed=False, more=("GTE_GTC",))
    quantity = number(params, "quantity", required=not close)
    lots = 0 if quantity is None else rules.lots(quantity, market=market)
    match = _price_match(params, limit=not market)
    price = number(params, "price", required=not market and match == "NONE")
    trigger = number(params, "triggerPrice", required=not trailing)
    callback, activate = number(params, "callbackRate", required=trailing), number(params, "activatePrice")
    if trigger is not None and trigger <= 0:
        raise Refused(-4001)
    if callback is not None and not Decimal("0.1") <= callback <= 20:
        raise Refused(-1130, "callbackRate")
    working = params.get("workingType", "CONTRACT_PRICE")
    if working not in ("CONTRACT_PRICE", "MARK_PRICE"):
        raise Refused(-1130, "workingType")
    return Wanted(
        rules.symbol,
        buy,
        kind,
        "GTE_GTC" if close else tif,
        lots,
        0 if market or price is None else rules.ticks(price),
        close or flag(params, "reduceOnly"),
        client_id(params, "clientAlgoId"),
        False,
        stp=_stp(params),
        close_position=close,
        trigger=trigger or Decimal(0),
        working_type=working,
        price_protect=flag(params, "priceProtect"),
        callback=callback or Decimal(0),
        activate=activate or Decimal(0),
        price_match=match,
        gtd=_good_till(params, tif, now_ms),
    )
