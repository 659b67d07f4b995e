"""Transfers into and out of the futures wallet: an income row, a new wallet balance, an event on the user stream.

Binance books it as TRANSFER and sends ACCOUNT_UPDATE with the reason DEPOSIT or WITHDRAW (venue notes 3). The futures
API has no endpoint for it, so operators do it: `POST /sim/transfer`.
"""

from typing import TYPE_CHECKING

from bot.sim import entry, events
from bot.sim.account import ZERO
from bot.sim.errors import Refused
from bot.sim.events import Json
from bot.sim.filters import number

if TYPE_CHECKING:
    from bot.sim.venue import Venue


def transfer(venue: "Venue", params: dict[str, str]) -> Json:
    """Transfer `amount` (negative: out) of `asset` and return the income row.

    Raises
    ------
    Refused
        -1130 for an invalid asset or amount, -2018 if it exceeds the available balance.
    """
    asset, amount = entry.required(params, "asset"), number(params, "amount", required=True)
    if asset != venue.asset:
        raise Refused(-1130, "asset")
    if not amount or amount > 10**12:
        raise Refused(-1130, "amount")
    if -amount > venue.account.available(venue.marks(), venue.reserved()):
        raise Refused(-2018)
    venue.account.transfer(amount)
    venue.account_ms = venue.now_ms
    venue.book_income("", "TRANSFER", amount, info="TRANSFER")
    venue.outbox.append(events.account_event(venue, "DEPOSIT" if amount > ZERO else "WITHDRAW", change=amount))
    return venue.incomes[-1]
