"""The lies that the state machine draws from, by name, so that a kept run can be written down."""

from collections.abc import Callable
from typing import Final

from tests.engine_harness import BTC
from tests.hostile import lies
from tests.hostile.liar import Lie, Phantom, ReplyLie, Scene, Spoil
from tests.hostile.lies import YEAR_2100, push


def _reply(endpoint: str, spoil: Spoil) -> Callable[[int], Lie]:
    return lambda ms: ReplyLie(endpoint, spoil, ms=ms)


def _frame(make: Callable[[Scene], object]) -> Callable[[int], Lie]:
    """A phantom of a position that may not be there: then nothing is told."""
    made = push("private", make)

    def frames(scene: Scene) -> list[bytes]:
        try:
            return made.frames(scene) if scene.exchange.venue.account.positions[BTC].qty else []
        except StopIteration:
            return []

    return lambda ms: Phantom("private", frames)


JUNK: Final = (
    b"<html>",
    b"[]",
    b"null",
    b'{"e":"ORDER_TRADE_UPDATE","E":1,"T":1}',
    b'{"e":"ACCOUNT_UPDATE","E":1,"a":{"B":5}}',
)

READ_LIES: Final[dict[str, Callable[[int], Lie]]] = {
    "positions empty": _reply("positionRisk", lies.LIST),
    "positions null": _reply("positionRisk", lies.NULL),
    "positions zero": _reply("positionRisk", lies.fields(positionAmt="0.000", entryPrice="0.0")),
    "positions lack one": _reply("positionRisk", lies.without(lies.of_symbol(BTC))),
    "positions stale": _reply("positionRisk", lies.stale),
    "positions opposite": _reply("positionRisk", lies.scaled("positionAmt", -1)),
    "positions in 2100": _reply("positionRisk", lies.fields(positionAmt="0.000", updateTime=YEAR_2100)),
    "stops empty": _reply("openAlgoOrders", lies.LIST),
    "stops null": _reply("openAlgoOrders", lies.NULL),
    "stops canceled": _reply("openAlgoOrders", lies.fields(algoStatus="CANCELED")),
    "stops stale": _reply("openAlgoOrders", lies.stale),
    "stop unknown": _reply("algoOrder", lies.error(-2013, "Order does not exist.")),
    "orders empty": _reply("openOrders", lies.LIST),
    "orders canceled": _reply("openOrders", lies.fields(status="CANCELED")),
    "orders stale": _reply("openOrders", lies.stale),
    "order null": _reply("order", lies.NULL),
    "balance zero": _reply("balance", lies.fields(balance="0.00000000")),
    "balance empty": _reply("balance", lies.LIST),
    "balance tenfold": _reply("balance", lies.each(lambda row: row | {"balance": f"{float(row['balance']) * 10:.8f}"})),
    "trades empty": _reply("userTrades", lies.LIST),
    "trades null": _reply("userTrades", lies.NULL),
    "trades in 2100": _reply("userTrades", lies.fields(time=YEAR_2100)),
    "trades with a fill too many": _reply("userTrades", lies.phantom_trade),
}  # fmt: skip
FRAME_LIES: Final[dict[str, Callable[[int], Lie]]] = {
    "junk": lambda ms: lies.raw("private", *JUNK),
    "flat": _frame(lies.account(**lies.FLAT)),
    "flat in 2100": _frame(lies.account(at_ms=YEAR_2100, **lies.FLAT)),
    "no money": _frame(lies.account(wallet="0.00000000")),
    "a fill of nobody": _frame(lies.filled()),
    "a fill in 2100": _frame(lies.filled(at_ms=YEAR_2100)),
    "a fill of our stop": _frame(lies.filled("sl")),
    "our stop canceled": _frame(lies.stop_is("CANCELED")),
    "our stop rejected in 2100": _frame(lies.stop_is("REJECTED", at_ms=YEAR_2100)),
    "no account updates": lambda ms: lies.dropped("ACCOUNT_UPDATE", ms=ms),
    "orders in 2100": lambda ms: lies.changed("ORDER_TRADE_UPDATE", lies.in_2100, ms=ms),
}  # fmt: skip
MENU: Final = READ_LIES | FRAME_LIES
