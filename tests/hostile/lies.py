"""The ways to lie: what a false reply or frame is made of, from the true one or from nothing."""

import gzip
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from bot.orders.ids import role_of
from bot.sim import events, payloads
from bot.sim.orders import Algo
from tests.engine_harness import BASE, BTC
from tests.hostile.liar import Answer, FrameLie, Phantom, Scene, Spoil

YEAR_2100 = 4_102_444_800_000
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
BIG = 9 << 20  # bytes: more than any reply may have
STREAMS = {"market": "btcusdt@kline_3m", "public": "btcusdt@bookTicker"}

# Replies -----------------------------------------------------------------------------------------------------------------


def body(text: bytes, *, status: int = 200, kind: str = "application/json") -> Spoil:
    """These bytes, whatever was asked."""
    return lambda answer, scene: Answer(text, status, {}, kind)


EMPTY, NULL, LIST, OBJECT = body(b""), body(b"null"), body(b"[]"), body(b"{}")
STRING, NUMBER, PAGE = body(b'"ok"'), body(b"5"), body(HTML, kind="text/html")
CUT = body(b'[{"symbol":"BTCUSDT","positionAmt":"0.4')


def error(code: int, text: str = "refused", *, status: int = 400) -> Spoil:
    """A refusal of the exchange; with status 200 its words come as a success."""
    return body(orjson.dumps({"code": code, "msg": text}), status=status)


def each(change: Callable[[dict[str, Any]], Any], *, of: Callable[[dict[str, Any]], bool] = lambda row: True) -> Spoil:
    """Change the rows of a list (or the one object) that `of` picks; None leaves a row out, a list puts several."""

    def spoil(answer: Answer, scene: Scene) -> Answer:
        data = answer.data
        if isinstance(data, dict):
            return answer.of(change(data)) if of(data) else answer
        rows: list[Any] = []
        for row in data:
            made = change(dict(row)) if of(row) else row
            rows += made if isinstance(made, list) else [] if made is None else [made]
        return answer.of(rows)

    return spoil


def fields(**values: Any) -> Spoil:
    """Set fields of every row."""
    return each(lambda row: row | values)


def wallet_gone(answer: Answer, scene: Scene) -> Answer:
    """Income books that all money was transferred away a moment ago."""
    wallet = scene.exchange.venue.account.wallet
    row = {"symbol": "", "incomeType": "TRANSFER", "income": f"-{wallet}", "asset": "USDT", "time": scene.now_ms - 100,
           "info": "TRANSFER", "tranId": 9_000_000_001, "tradeId": ""}  # fmt: skip
    return answer.of([*answer.data, row])


def fields_of(of: Callable[[dict[str, Any]], bool], **values: Any) -> Spoil:
    """Set fields of the rows that `of` picks."""
    return each(lambda row: row | values, of=of)


def scaled(name: str, factor: float) -> Spoil:
    """Multiply a number of every row."""
    return each(lambda row: row | {name: f"{float(row[name]) * factor:.8g}"})


def without(of: Callable[[dict[str, Any]], bool]) -> Spoil:
    """Leave rows out."""
    return each(lambda row: None, of=of)


def doubled(answer: Answer, scene: Scene) -> Answer:
    """Every row twice."""
    return answer.of([row for row in answer.data for _ in range(2)])


def doubled_with_new_ids(answer: Answer, scene: Scene) -> Answer:
    """Every trade twice, the second with an id of its own."""
    return answer.of([made for row in answer.data for made in (row, row | {"id": row["id"] + 500_000})])


def stale(answer: Answer, scene: Scene) -> Answer:
    """The oldest honest answer to the same question that had rows."""
    return next((old for old in scene.earlier if len(old.body) > 2), answer)


def padded(answer: Answer, scene: Scene) -> Answer:
    """The true rows in a body of more than 8 MB."""
    data = answer.data
    return answer.of(
        [row | {"note": "x" * BIG} for row in data] if isinstance(data, list) else data | {"note": "x" * BIG}
    )


def bomb(answer: Answer, scene: Scene) -> Answer:
    """A few kB that become more than 8 MB when they are decompressed."""
    packed = gzip.compress(b"[" + b" " * BIG + answer.body[1:])
    return Answer(packed, 200, {"Content-Encoding": "gzip"})


def of_symbol(symbol: str) -> Callable[[dict[str, Any]], bool]:
    """Pick the rows of a symbol."""
    return lambda row: row.get("symbol") == symbol


def of_role(role: str) -> Callable[[dict[str, Any]], bool]:
    """Pick the orders of a role."""
    return lambda row: role_of(str(row.get("clientOrderId") or row.get("clientAlgoId") or "")) == role


def nested(path: tuple[str, ...], change: Callable[[Any], Any]) -> Spoil:
    """Change what lies deep in an object."""

    def spoil(answer: Answer, scene: Scene) -> Answer:
        data = answer.data
        inner = data
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = change(inner[path[-1]])
        return answer.of(data)

    return spoil


def with_filter(name: str, **values: Any) -> Spoil:
    """Change one filter of every instrument."""

    def change(symbols: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for line in symbols:
            line["filters"] = [f | values if f["filterType"] == name else f for f in line["filters"]]
        return symbols

    return nested(("symbols",), change)


def many_brackets(answer: Answer, scene: Scene) -> Answer:
    """A hundred thousand brackets."""
    return answer.of(
        [line | {"brackets": line["brackets"] * (100_000 // len(line["brackets"]))} for line in answer.data]
    )


def with_brackets(**values: Any) -> Spoil:
    """Change every leverage bracket."""
    return each(lambda row: row | {"brackets": [bracket | values for bracket in row["brackets"]]})


def phantom_trade(answer: Answer, scene: Scene) -> Answer:
    """One more trade that closed the whole position, of an order that was never sent."""
    rows = answer.data
    if not rows:
        return answer
    qty = scene.exchange.venue.account.positions[rows[-1]["symbol"]].qty
    if not qty:
        return answer
    last = rows[-1] | {"id": 7_777_777, "orderId": 7_777_777, "qty": f"{abs(qty):f}", "time": scene.now_ms}
    return answer.of([*rows, last | {"side": "SELL" if qty > 0 else "BUY", "buyer": qty < 0}])


def klines_shifted(by_ms: int) -> Spoil:
    """Bars at other times."""
    return lambda answer, scene: answer.of(
        [[row[0] + by_ms, *row[1:6], row[6] + by_ms, *row[7:]] for row in answer.data]
    )


def kline_value(index: int, value: Any) -> Spoil:
    """One value of every bar."""
    return lambda answer, scene: answer.of([[*row[:index], value, *row[index + 1 :]] for row in answer.data])


# Replies to writes -------------------------------------------------------------------------------------------------------


def says_canceled(answer: Answer, scene: Scene) -> Answer:
    """In place of a regular cancel: the order as if it were cancelled."""
    assert scene.asked is not None
    order = scene.exchange.venue._by_client[scene.asked.params["symbol"], scene.asked.params["origClientOrderId"]]
    row = payloads.order_reply(scene.exchange.venue, order) | {"status": "CANCELED", "updateTime": scene.now_ms}
    return Answer(orjson.dumps(row))


def says_stop_canceled(answer: Answer, scene: Scene) -> Answer:
    """In place of a stop's cancel: done."""
    assert scene.asked is not None
    client_id = scene.asked.params["clientAlgoId"]
    found = next(a for a in scene.exchange.venue.algos.by_id.values() if a.client_id == client_id)
    row = {"algoId": found.algo_id, "clientAlgoId": client_id, "code": "200", "msg": "success"}
    return Answer(orjson.dumps(row))


def says_stop_placed(answer: Answer, scene: Scene) -> Answer:
    """In place of a stop's placing: it rests."""
    assert scene.asked is not None
    params, now = scene.asked.params, scene.now_ms
    row = {
        "algoId": 4_000_000_001, "clientAlgoId": params["clientAlgoId"], "algoType": "CONDITIONAL",
        "orderType": params["type"], "symbol": params["symbol"], "side": params["side"], "positionSide": "BOTH",
        "timeInForce": "GTC", "quantity": params.get("quantity", "0"), "algoStatus": "NEW", "actualOrderId": "",
        "actualPrice": "0.0", "actualQty": "0", "triggerPrice": params["triggerPrice"], "price": "0",
        "workingType": params.get("workingType", "MARK_PRICE"), "closePosition": params.get("closePosition") == "true",
        "reduceOnly": params.get("reduceOnly") == "true", "priceProtect": False, "createTime": now, "updateTime": now,
        "triggerTime": 0, "goodTillDate": 0,
    }  # fmt: skip
    return Answer(orjson.dumps(row))


def other_order(answer: Answer, scene: Scene) -> Answer:
    """The reply of another order: its own words, another id."""
    row = answer.data
    name = "clientAlgoId" if "clientAlgoId" in row else "clientOrderId"
    return answer.of(row | {name: "web_somebody_else", "orderId": 4_711, "algoId": 4_711, "symbol": "DOGEUSDT"})


def says_filled(answer: Answer, scene: Scene) -> Answer:
    """An order that rests is said to be filled."""
    row = answer.data
    if "origQty" not in row:
        return answer
    return answer.of(row | {"status": "FILLED", "executedQty": row["origQty"], "avgPrice": row["price"]})


def says_market_filled(answer: Answer, scene: Scene) -> Answer:
    """In place of a market order's placing: all of it is filled."""
    assert scene.asked is not None
    params, now = scene.asked.params, scene.now_ms
    row = {
        "symbol": params["symbol"], "clientOrderId": params["newClientOrderId"], "orderId": 4_711, "side": params["side"],
        "type": params["type"], "origType": params["type"], "status": "FILLED", "origQty": params["quantity"],
        "executedQty": params["quantity"], "avgPrice": f"{scene.exchange.venue.mark(params['symbol']):f}", "price": "0",
        "reduceOnly": params.get("reduceOnly") == "true", "closePosition": False, "positionSide": "BOTH",
        "timeInForce": "GTC", "updateTime": now,
    }  # fmt: skip
    return Answer(orjson.dumps(row))


# Frames ------------------------------------------------------------------------------------------------------------------


def wrapped(feed: str, data: Any) -> bytes:
    """Return a frame's text as a feed sends it."""
    return orjson.dumps(data if feed == "private" else {"stream": STREAMS[feed], "data": data})


def raw(feed: str, *texts: bytes, times: int = 1) -> Phantom:
    """These texts as they are."""
    return Phantom(feed, lambda scene: list(texts), times=times)


def push(feed: str, make: Callable[[Scene], Any], *, times: int = 1, every_ms: int = 1_000) -> Phantom:
    """What `make` gives: one payload or a list of them."""

    def frames(scene: Scene) -> list[bytes]:
        made = make(scene)
        return [wrapped(feed, data) for data in (made if isinstance(made, list) else [made])]

    return Phantom(feed, frames, times=times, every_ms=every_ms)


def closed_bar(*, bars: int = 0, shift_ms: int = 0, symbol: str = BTC, **values: Any) -> Callable[[Scene], Any]:
    """A closed bar, `bars` after the one that ended last."""

    def make(scene: Scene) -> dict[str, Any]:
        now = scene.now_ms
        open_ms = now // BASE * BASE - BASE + bars * BASE + shift_ms
        price = f"{scene.exchange.venue.mark(BTC):f}"
        bar = {
            "t": open_ms, "T": open_ms + BASE - 1, "s": symbol, "i": "3m", "f": 1, "L": 2, "o": price, "c": price, "h": price,
            "l": price, "v": "10", "n": 5, "x": True, "q": "1", "V": "5", "Q": "1", "B": "0",
        } | {name: value for name, value in values.items() if name != "E"}  # fmt: skip
        return {"e": "kline", "E": values.get("E", now), "s": symbol, "k": bar}

    return make


def best(**values: Any) -> Callable[[Scene], Any]:
    """A best bid and ask."""

    def make(scene: Scene) -> dict[str, Any]:
        now, price = scene.now_ms, f"{scene.exchange.venue.mark(BTC):f}"
        quote = {
            "e": "bookTicker",
            "u": 10**15 + now,
            "s": BTC,
            "b": price,
            "B": "1",
            "a": price,
            "A": "1",
            "T": now,
            "E": now,
        }
        return quote | values

    return make


def mark(**values: Any) -> Callable[[Scene], Any]:
    """A mark price."""

    def make(scene: Scene) -> dict[str, Any]:
        now, price = scene.now_ms, f"{scene.exchange.venue.mark(BTC):f}"
        told = {"e": "markPriceUpdate", "E": now, "s": BTC, "p": price, "i": price, "P": price, "r": "0.0001"}
        return told | {"T": now + 3_600_000} | values

    return make


def account(
    reason: str = "ORDER", *, symbol: str = BTC, wallet: str = "", at_ms: int = 0, **position: Any
) -> Callable[[Scene], Any]:
    """An ACCOUNT_UPDATE of one symbol with some fields of its position changed."""

    def make(scene: Scene) -> dict[str, Any]:
        told = events.account_event(scene.exchange.venue, reason, symbols=(symbol,))
        told["E"] = told["T"] = at_ms or scene.now_ms
        told["a"]["P"][0] |= position
        if wallet:
            told["a"]["B"][0] |= {"wb": wallet, "cw": wallet}
        return told

    return make


FLAT = {"pa": "0", "ep": "0", "up": "0", "iw": "0"}


def filled(
    role: str = "", *, client_id: str = "web_phantom", share: float = 1.0, number: int = 7_777_777, at_ms: int = 0,
    symbol: str = BTC, **values: Any,
) -> Callable[[Scene], Any]:  # fmt: skip
    """A fill that closes `share` of the position and never was, of our order of a role or of an unknown one."""

    def make(scene: Scene) -> dict[str, Any]:
        venue, now = scene.exchange.venue, at_ms or scene.now_ms
        qty = venue.account.positions[symbol].qty
        amount, price = f"{abs(float(qty)) * share:.3f}", f"{venue.mark(symbol):f}"
        name, order_id, kind = client_id, 999, "MARKET"
        if role in ("sl", "cs"):
            stop = our_stop(scene, role, symbol)
            name, kind = stop.client_id, "STOP_MARKET"
        elif role:
            order = next(o for o in venue.open_orders(symbol) if role_of(o.client_id) == role)
            name, order_id, kind = order.client_id, order.order_id, "LIMIT"
            amount = f"{venue.rules[symbol].qty(order.left):f}"
        order_body = {
            "s": symbol, "c": name, "S": "SELL" if qty > 0 else "BUY", "o": "MARKET", "f": "GTC", "q": amount, "p": "0",
            "ap": price, "sp": "0", "x": "TRADE", "X": "FILLED", "i": order_id, "l": amount, "z": amount, "L": price,
            "n": "0.01", "N": "USDT", "T": now, "t": number, "m": False, "R": True, "ot": kind, "ps": "BOTH", "cp": False,
            "rp": "0", "er": "0",
        } | values  # fmt: skip
        return {"e": "ORDER_TRADE_UPDATE", "E": now, "T": now, "o": order_body}

    return make


def our_stop(scene: Scene, role: str, symbol: str = BTC) -> Algo:
    """Return our live stop of a role."""
    return next(a for a in scene.exchange.venue.algos.open(symbol) if role_of(a.client_id) == role)


def stop_is(
    status: str, role: str = "sl", *, at_ms: int = 0, symbol: str = BTC, **values: Any
) -> Callable[[Scene], Any]:
    """An ALGO_UPDATE that gives our live stop another state."""

    def make(scene: Scene) -> dict[str, Any]:
        told = events.algo_event(scene.exchange.venue, our_stop(scene, role, symbol))
        told["E"] = told["T"] = at_ms or scene.now_ms
        told["o"] |= {"X": status} | values
        return told

    return make


def both(*makers: Callable[[Scene], Any]) -> Callable[[Scene], Any]:
    """Several payloads one after the other."""

    def make(scene: Scene) -> list[Any]:
        found: list[Any] = []
        for maker in makers:
            made = maker(scene)
            found += made if isinstance(made, list) else [made]
        return found

    return make


def leverage(value: Any) -> Callable[[Scene], Any]:
    """An ACCOUNT_CONFIG_UPDATE."""
    return lambda scene: {
        "e": "ACCOUNT_CONFIG_UPDATE",
        "E": scene.now_ms,
        "T": scene.now_ms,
        "ac": {"s": BTC, "l": value},
    }


def dropped(event: str, *, symbol: str = "", ms: int = 6_000, count: int = 0) -> FrameLie:
    """Frames of a kind do not arrive."""
    return FrameLie(event, lambda payload, scene: [], ms=ms, symbol=symbol, count=count)


def changed(
    event: str, change: Callable[[dict[str, Any]], Iterable[Any]], *, ms: int = 60_000, symbol: str = ""
) -> FrameLie:
    """Frames of a kind arrive as `change` makes them."""
    return FrameLie(event, lambda payload, scene: list(change(payload)), ms=ms, symbol=symbol)


def fill_twice(payload: dict[str, Any]) -> list[Any]:
    """A fill twice, the second time with a trade id of its own."""
    if payload["o"]["x"] != "TRADE":
        return [payload]
    return [payload, payload | {"o": payload["o"] | {"t": payload["o"]["t"] + 500_000}}]


def fill_with(role: str, **values: Callable[[str], str]) -> Callable[[dict[str, Any]], list[Any]]:
    """Fills of a role with other figures under their true trade ids."""

    def change(payload: dict[str, Any]) -> list[Any]:
        order = payload["o"]
        if order["x"] != "TRADE" or role_of(order["c"]) != role:
            return [payload]
        return [payload | {"o": order | {name: make(order[name]) for name, make in values.items()}}]

    return change


def halved(number: str) -> str:
    """Half of a quantity, to the lot."""
    return f"{float(number) / 2:.3f}"


def tenfold(number: str) -> str:
    """Ten times a price."""
    return f"{float(number) * 10:.8g}"


def in_2100(payload: dict[str, Any]) -> list[Any]:
    """The same with times of the year 2100."""
    made = payload | {name: YEAR_2100 for name in ("E", "T") if name in payload}
    if isinstance(payload.get("o"), dict) and "T" in payload["o"]:
        made["o"] = payload["o"] | {"T": YEAR_2100}
    return [made]


def of_doge(payload: dict[str, Any]) -> list[Any]:
    """The same of another symbol."""
    return [payload | {"o": payload["o"] | {"s": "DOGEUSDT"}}]
