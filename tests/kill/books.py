"""What is asked of both sides after a kill: is everything protected, was anything doubled, and do the books agree to the cent?"""

import re
import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from bot.journal import Journal
from bot.orders.ids import role_of
from tests.engine_harness import BTC
from tests.kill.scenarios import Scenario

State = dict[str, Any]
CENT = Decimal("0.01")
# Alarms that a death may lead to: an order that was on record and never sent, and a position that stayed bare for too long.
EXPECTED = re.compile(r"-2013 |naked for \d+ ms: closing at market")


def live(state: State) -> list[dict[str, Any]]:
    """Return all orders that can still do something."""
    orders = [o for o in state["orders"] if o["status"] in ("NEW", "PARTIALLY_FILLED")]
    return orders + [a for a in state["algo_orders"] if a["algoStatus"] in ("NEW", "TRIGGERING")]


def unprotected(state: State, *, exact: bool) -> list[str]:
    """Return what is wrong with protection: each position covered, one catastrophe stop, nothing left on a flat symbol.

    Stops may be for more than is held, and orders of a flat symbol may live, while something is in flight (an order that was
    on record and never sent is believed absent after six seconds at the soonest); with `exact`, they may not.
    """
    faults = []
    held = {p["symbol"]: Decimal(p["positionAmt"]) for p in state["positions"] if Decimal(p["positionAmt"])}
    orders: dict[str, list[dict[str, Any]]] = {}
    for order in live(state):
        orders.setdefault(order["symbol"], []).append(order)
    for symbol in sorted(held.keys() | orders.keys()):
        qty, there = held.get(symbol, Decimal(0)), orders.get(symbol, [])
        stops = [o for o in there if "algoStatus" in o]
        sized = sum((Decimal(o["quantity"]) for o in stops if o["closePosition"] in (False, "false")), Decimal(0))
        far = [o for o in stops if o["closePosition"] in (True, "true")]
        if sized < abs(qty) or (exact and sized != abs(qty)):
            faults.append(f"{symbol}: {qty} held, stops for {sized}")
        if len(far) != (symbol == BTC and qty != 0) and (exact or qty):
            faults.append(f"{symbol}: {qty} held, {len(far)} catastrophe stops")
        entries = [o for o in there if role_of(_client_id(o)) in ("en", "io", "hx")]
        if entries:
            faults.append(f"{symbol}: {len(entries)} entries work on")
        if exact and not qty and there:
            faults.append(f"{symbol}: flat, and {', '.join(_client_id(o) for o in there)} is live")
    return faults


def repeated(before: State, after: State, *, unresolved: bool) -> list[str]:
    """Return orders that a second restart sent although nothing had happened, and nothing was open when the bot died."""
    if unresolved or len(before["fills"]) != len(after["fills"]) or live(before) == []:
        return []
    new = Counter(_ids(after)) - Counter(_ids(before))
    return [f"a second restart sent {name}" for name in new]


def compare(folder: Path, state: State, scenario: Scenario) -> list[str]:
    """Return every difference between the exchange's books and the bot's at the end."""
    faults = []
    if any(Decimal(p["positionAmt"]) for p in state["positions"]) or live(state):
        faults.append(f"not flat at the end: {state['positions']} {[_client_id(o) for o in live(state)]}")
    if state["failures"]:
        faults.append(f"{state['failures']} handlers or items of the exchange raised")
    # A stop that triggers becomes an order of the same id: each list is looked at by itself.
    orders, algos = ([_client_id(o) for o in state[kind]] for kind in ("orders", "algo_orders"))
    doubled = [name for ids in (orders, algos) for name, n in Counter(ids).items() if n > 1]
    if doubled:
        faults.append(f"accepted twice: {doubled}")
    path = folder / "data" / "bot.db"
    with Journal(path, read_only=True) as journal:
        trades = [t for t in journal.trades() if t.opened_ms]
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        ours = db.execute("SELECT symbol, trade_id, client_id, side, qty, price, fee, realized FROM fills").fetchall()
        known = {row[0]: row[1:] for row in db.execute("SELECT client_id, status, filled_qty, algo FROM orders")}
        alerts = [orjson.loads(row[0]) for row in db.execute("SELECT body FROM intents WHERE type = 'Alert'")]
    finally:
        db.close()
    faults += [f"alert: {a['text']}" for a in alerts if a["level"] == "critical" and not EXPECTED.search(a["text"])]
    faults += _fills(ours, state)
    faults += _orders(known, state)
    theirs = state["fills"]
    entered = sum((Decimal(f["qty"]) for f in theirs if role_of(f["clientOrderId"]) in ("en", "io")), Decimal(0))
    if len(trades) != (entered > 0):
        faults.append(f"{len(trades)} trades on record, {entered} entered")
    for trade in trades:
        if trade.qty != entered or entered > trade.plan_qty or trade.side is not scenario.side:
            faults.append(
                f"trade of {trade.qty} {trade.side.name} on record, planned {trade.plan_qty}, entered {entered}"
            )
    opened = Counter(f["symbol"] for f in {f["clientOrderId"]: f for f in theirs}.values()
                     if role_of(f["clientOrderId"]) == "hx")  # fmt: skip
    faults += [f"leg {symbol} opened {n} times" for symbol, n in opened.items() if n > 1]
    earned = Decimal(state["wallet"]) - Decimal(str(scenario.wallet))
    booked = sum((t.pnl for t in trades), Decimal(0))
    if abs(earned - booked) >= CENT:
        faults.append(f"the wallet changed by {earned}, the trades on record earned {booked}")
    return faults


def _fills(ours: list[Any], state: State) -> list[str]:
    booked = {(r[0], r[1]): (r[2], r[3], *(Decimal(v) for v in r[4:7])) for r in ours}
    told = {
        (f["symbol"], f["id"]): (
            f["clientOrderId"],
            f["side"],
            *(Decimal(f[name]) for name in ("qty", "price", "commission")),
        )
        for f in state["fills"]
    }
    faults = [f"fill {key} of {told[key][0]} is not on record" for key in told.keys() - booked.keys()]
    faults += [
        f"fill {key} of {booked[key][0]} is on record, not at the exchange" for key in booked.keys() - told.keys()
    ]
    faults += [
        f"fill {k}: {booked[k]} on record, {told[k]} told" for k in told.keys() & booked.keys() if told[k] != booked[k]
    ]
    paid, noted = (sum((row[4] for row in book.values()), Decimal(0)) for book in (told, booked))
    return faults + ([f"fees of {noted} on record, {paid} paid"] if abs(paid - noted) >= CENT else [])


def _orders(known: dict[str, Any], state: State) -> list[str]:
    faults = []
    told = {o["clientOrderId"]: (o["status"], Decimal(o["executedQty"])) for o in state["orders"]}
    told = {name: found for name, found in told.items() if role_of(name) != "fx"}
    there = told.keys() | {a["clientAlgoId"] for a in state["algo_orders"]}
    for name, (status, filled) in told.items():
        if name not in known:
            faults.append(f"order {name} ({status}) is not on record")
        elif Decimal(known[name][1]) != filled or (not known[name][2] and known[name][0] != status):
            faults.append(f"order {name}: {known[name]} on record, {status} {filled} at the exchange")
    for name, (status, filled, _) in known.items():
        if name not in there and (status != "REJECTED" or Decimal(filled)):
            faults.append(f"order {name} ({status}) is on record, not at the exchange")
        if status in ("PENDING", "UNKNOWN", "NEW", "PARTIALLY_FILLED"):
            faults.append(f"order {name} is {status} for ever")
    return faults


def unresolved(folder: Path) -> bool:
    """Whether the fate of an order is not on record yet: a bot that comes back goes on looking for it."""
    db = sqlite3.connect(f"{(folder / 'data' / 'bot.db').as_uri()}?mode=ro", uri=True)
    try:
        return db.execute("SELECT 1 FROM orders WHERE status IN ('PENDING', 'UNKNOWN') LIMIT 1").fetchone() is not None
    finally:
        db.close()


def ending(folder: Path) -> str:
    """Return how the trade on record ended."""
    with Journal(folder / "data" / "bot.db", read_only=True) as journal:
        return ", ".join(t.exit_reason for t in journal.trades()) or "none"


def naked_since(before: State, after: State) -> int:
    """Return for how long the exchange saw a position without a whole stop from one state to another, the worst symbol."""
    spent = {symbol: report["total"] for symbol, report in before["naked_ms"].items()}
    return max((report["total"] - spent.get(symbol, 0) for symbol, report in after["naked_ms"].items()), default=0)


def _client_id(order: dict[str, Any]) -> str:
    return str(order.get("clientOrderId") or order.get("clientAlgoId"))


def _ids(state: State) -> list[str]:
    return [o["clientOrderId"] for o in state["orders"]] + [a["clientAlgoId"] for a in state["algo_orders"]]
