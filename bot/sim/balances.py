"""REST payloads of balances and positions: positionRisk, balance and account, in versions 2 and 3.

Version 3 omits flat positions without orders and no longer reports leverage and margin type (venue notes 3).
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from bot.sim.account import ZERO, VenuePosition
from bot.sim.events import Json, money

if TYPE_CHECKING:
    from bot.sim.venue import Venue


MONEY: Final = frozenset({"balance", "crossWalletBalance", "crossUnPnl", "availableBalance", "maxWithdrawAmount"})


def position_reply(venue: "Venue", symbol: str, *, version: int, side: str = "BOTH") -> Json:
    """Return a positionRisk row, v3 or v2 with its settings.

    Parameters
    ----------
    version
        2 or 3.
    side
        BOTH; in hedge mode there is one row each for LONG and SHORT, always flat here.
    """
    p, mark, rules = venue.account.positions[symbol], venue.mark(symbol), venue.rules[symbol]
    margin = p.initial(mark)
    reserved = venue.order_margin(symbol)
    buys, sells = venue.open_notional(symbol)
    row: Json = {
        "symbol": symbol,
        "positionSide": side,
        "positionAmt": f"{p.qty:.{rules.qty_digits}f}",
        "entryPrice": f"{p.entry.normalize():f}" if p.qty else "0.0",
        "breakEvenPrice": f"{p.entry.normalize():f}" if p.qty else "0.0",
        "markPrice": money(mark),
        "unRealizedProfit": money(p.unrealized(mark)),
        "liquidationPrice": f"{p.liquidation(mark).normalize():f}",
        "isolatedMargin": money(p.isolated_wallet + p.unrealized(mark)) if p.isolated and p.qty else "0",
        "notional": f"{p.notional(mark):f}",
        "isolatedWallet": money(p.isolated_wallet),
        "updateTime": p.updated_ms,
    }
    if version >= 3:
        row |= {
            "marginAsset": "USDT",
            "initialMargin": money(margin + reserved),
            "maintMargin": money(p.maintenance(mark)),
            "positionInitialMargin": money(margin),
            "openOrderInitialMargin": money(reserved),
            "adl": 0,
            "bidNotional": f"{buys:f}",
            "askNotional": f"{sells:f}",
        }
    else:
        row |= {
            "marginType": "isolated" if p.isolated else "cross",
            "isAutoAddMargin": "false",
            "leverage": str(p.leverage),
            "maxNotionalValue": f"{rules.cap(p.leverage):f}",
        }
    return row


def balance_rows(venue: "Venue") -> list[Json]:
    """Return the balance rows; in credits mode the money is in BNFCR and an empty USDT row comes first."""
    row = balance_reply(venue)
    if venue.asset == "USDT":
        return [row]
    empty = {name: money(ZERO) for name in MONEY & row.keys()}
    return [row | empty | {"asset": "USDT", "updateTime": 0}, row]


def balance_reply(venue: "Venue") -> Json:
    """Return the balance row of the wallet's asset."""
    marks, account = venue.marks(), venue.account
    available = account.available(marks, venue.reserved())
    return {
        "accountAlias": "SgsR",
        "asset": venue.asset,
        "balance": money(account.wallet),
        "crossWalletBalance": money(account.cross_wallet),
        "crossUnPnl": money(account.unrealized(marks, cross_only=True)),
        "availableBalance": money(available),
        "maxWithdrawAmount": money(available),
        "marginAvailable": True,
        "updateTime": venue.account_ms,
    }


def account_reply(venue: "Venue", *, version: int) -> Json:
    """Return account v3, or v2 with its settings and all symbols."""
    marks, account = venue.marks(), venue.account
    reserved, unrealized = venue.reserved(), account.unrealized(marks)
    positions = account.positions
    margin = sum((p.initial(marks[s]) for s, p in positions.items()), ZERO)
    maintenance = sum((p.maintenance(marks[s]) for s, p in positions.items()), ZERO)
    available = money(account.available(marks, reserved))
    both = {
        "initialMargin": money(margin + reserved),
        "maintMargin": money(maintenance),
        "walletBalance": money(account.wallet),
        "unrealizedProfit": money(unrealized),
        "marginBalance": money(account.wallet + unrealized),
        "positionInitialMargin": money(margin),
        "openOrderInitialMargin": money(reserved),
        "crossWalletBalance": money(account.cross_wallet),
        "crossUnPnl": money(account.unrealized(marks, cross_only=True)),
    }
    reply: Json = {"total" + key[0].upper() + key[1:]: value for key, value in both.items()}
    reply |= {"availableBalance": available, "maxWithdrawAmount": available}
    asset: Json = {"asset": venue.asset, **both, "availableBalance": available, "maxWithdrawAmount": available}
    asset |= {"marginAvailable": True, "updateTime": venue.account_ms}
    empty = {name: money(ZERO) for name in both} | dict.fromkeys(("availableBalance", "maxWithdrawAmount"), money(ZERO))
    reply["assets"] = [asset] if venue.asset == "USDT" else [asset | empty | {"asset": "USDT", "updateTime": 0}, asset]
    reply["positions"] = [
        _account_position(venue, symbol, p, marks[symbol], version=version)
        for symbol, p in positions.items()
        if version < 3 or p.qty or venue.open_orders(symbol)
    ]
    if version < 3:
        reply |= {"feeTier": 0, "canTrade": True, "canDeposit": True, "canWithdraw": True, "tradeGroupId": -1}
        reply |= {"multiAssetsMargin": venue.settings.multi_assets, "updateTime": 0}
    return reply


def _account_position(venue: "Venue", symbol: str, p: VenuePosition, mark: Decimal, *, version: int) -> Json:
    margin, reserved = p.initial(mark), venue.order_margin(symbol)
    row: Json = {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": f"{p.qty:f}",
        "unrealizedProfit": money(p.unrealized(mark)),
        "isolatedMargin": money(p.isolated_wallet + p.unrealized(mark)) if p.isolated and p.qty else "0",
        "notional": f"{p.notional(mark):f}",
        "isolatedWallet": money(p.isolated_wallet),
        "initialMargin": money(margin + reserved),
        "maintMargin": money(p.maintenance(mark)),
        "updateTime": p.updated_ms,
    }
    if version < 3:
        row |= {
            "positionInitialMargin": money(margin),
            "openOrderInitialMargin": money(reserved),
            "leverage": str(p.leverage),
            "isolated": p.isolated,
            "entryPrice": f"{p.entry.normalize():f}",
            "breakEvenPrice": f"{p.entry.normalize():f}",
            "maxNotional": f"{venue.rules[symbol].cap(p.leverage):f}",
            "bidNotional": "0",
            "askNotional": "0",
        }
    return row
