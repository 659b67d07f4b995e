"""Account settings: leverage, margin type, position mode, asset mode, and manual margin transfers (venue notes 2.7).

Position mode can be switched to hedge mode, so that a client can be tested against a misconfigured account; orders are
then rejected (-4061), because trading here is one-way only. Multi-asset mode is a flag: there is only one asset. An
account in credits mode is permanently in multi-assets mode (`quirks.account`).
"""

from typing import TYPE_CHECKING, Any

from bot.sim import entry, events
from bot.sim.account import ZERO
from bot.sim.errors import Refused
from bot.sim.filters import number

if TYPE_CHECKING:
    from bot.sim.venue import Venue

Params = dict[str, str]
DONE = {"code": 200, "msg": "success"}
# The code is what clients of such accounts have reported; its documented text is about negative balances, this one is a guess.
FORCED = "Not allowed to change the asset mode in your region."


class AccountSettings:
    """Settings and the conditions for changing them."""

    def __init__(self, venue: "Venue") -> None:
        self._venue = venue
        self.account = "standard"
        self.dual = False
        self.multi_assets = False
        self.fee_burn = False
        self.margin_moves: list[dict[str, Any]] = []

    def become(self, account: str) -> None:
        """Set the initial modes of an account type; in multi-assets mode no position is isolated."""
        self.account = account
        self.dual = account == "hedge"
        self.multi_assets = account in ("multi", "credits")
        if self.multi_assets:
            for p in self._venue.account.positions.values():
                p.isolated, p.isolated_wallet = False, ZERO

    def check_mode(self, params: Params) -> None:
        """Reject an order that does not fit the position mode.

        Raises
        ------
        Refused
            In hedge mode: -4061 without a position side, -1020 with one.
        """
        if self.dual:
            raise Refused(-4061 if params.get("positionSide", "BOTH") == "BOTH" else -1020)

    def set_leverage(self, params: Params) -> dict[str, Any]:
        """Change a symbol's leverage.

        Raises
        ------
        Refused
            -4028 if it is invalid, -4202 above the account's limit, -4161 if lower with an isolated position open,
            -2027 if the position exceeds its cap.
        """
        venue = self._venue
        symbol = venue.symbol_of(params)
        p, rules = venue.account.positions[symbol], venue.rules[symbol]
        value = number(params, "leverage", required=True)
        if value is None or value != int(value) or not 1 <= value <= rules.tiers[0].max_leverage:
            raise Refused(-4028, params["leverage"])
        leverage = int(value)
        if venue.quirks.max_leverage and leverage > venue.quirks.max_leverage:
            raise Refused(-4202, venue.quirks.max_leverage)
        if p.qty and p.isolated and leverage < p.leverage:
            raise Refused(-4161)
        if p.qty and abs(p.notional(venue.mark(symbol))) > rules.cap(leverage):
            raise Refused(-2027)
        p.leverage = leverage
        venue.outbox.append(events.leverage_event(venue, symbol))
        return {"leverage": leverage, "maxNotionalValue": f"{rules.cap(leverage):f}", "symbol": symbol}

    def set_margin_type(self, params: Params) -> dict[str, Any]:
        """Switch a symbol between ISOLATED and CROSSED.

        Raises
        ------
        Refused
            -1130 for another type, -4046 without a change, -4168 in multi-assets mode, -4047 with open orders, -4048
            with a position.
        """
        venue = self._venue
        symbol = venue.symbol_of(params)
        kind = entry.required(params, "marginType")
        if kind not in ("ISOLATED", "CROSSED"):
            raise Refused(-1130, "marginType")
        p = venue.account.positions[symbol]
        if p.isolated == (kind == "ISOLATED"):
            raise Refused(-4046)
        if self.multi_assets:
            raise Refused(-4168)
        if venue.open_orders(symbol) or venue.algos.live[symbol]:
            raise Refused(-4047)
        if p.qty:
            raise Refused(-4048)
        p.isolated = kind == "ISOLATED"
        venue.outbox.append(events.account_event(venue, "MARGIN_TYPE_CHANGE", symbols=(symbol,)))
        return dict(DONE)

    def move_margin(self, params: Params) -> dict[str, Any]:
        """Add to (type 1) or take from (type 2) an isolated position's margin.

        Raises
        ------
        Refused
            -1130 for another type, -4055 if the amount is not positive, or an error of the account.
        """
        venue = self._venue
        symbol = venue.symbol_of(params)
        amount, kind = number(params, "amount", required=True), entry.required(params, "type")
        if kind not in ("1", "2"):
            raise Refused(-1130, "type")
        if amount is None or amount <= 0:
            raise Refused(-4055)
        signed = amount if kind == "1" else -amount
        venue.account.move_margin(symbol, signed, marks=venue.marks(), reserved=venue.reserved())
        venue.outbox.append(events.account_event(venue, "MARGIN_TRANSFER", symbols=(symbol,)))
        self.margin_moves.append(
            {
                "symbol": symbol,
                "type": int(kind),
                "deltaType": "USER_ADJUST",
                "amount": f"{amount:f}",
                "asset": venue.asset,
                "time": venue.now_ms,
                "positionSide": "BOTH",
            }
        )
        return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": int(kind)}

    def set_dual(self, params: Params) -> dict[str, Any]:
        """Switch between one-way and hedge mode, for all symbols at once.

        Raises
        ------
        Refused
            -4059 without a change, -4067 with open orders, -4068 with a position.
        """
        entry.required(params, "dualSidePosition")
        wanted = entry.flag(params, "dualSidePosition")
        if wanted == self.dual:
            raise Refused(-4059)
        self._refuse_when_busy(-4067, -4068)
        self.dual = wanted
        return dict(DONE)

    def set_multi(self, params: Params) -> dict[str, Any]:
        """Switch between single-asset and multi-asset mode.

        Raises
        ------
        Refused
            -4171 without a change, -4172 in credits mode, -4170 with open orders, -4167 with isolated symbols.
        """
        entry.required(params, "multiAssetsMargin")
        wanted = entry.flag(params, "multiAssetsMargin")
        venue = self._venue
        if wanted == self.multi_assets:
            raise Refused(-4171)
        if self.account == "credits":
            raise Refused(-4172, text=FORCED)
        if any(venue.open_orders(symbol) or venue.algos.live[symbol] for symbol in venue.rules):
            raise Refused(-4170)
        if wanted and any(p.isolated for p in venue.account.positions.values()):
            raise Refused(-4167)
        self.multi_assets = wanted
        venue.outbox.append(events.multi_assets_event(venue, wanted))
        return dict(DONE)

    def set_fee_burn(self, params: Params) -> dict[str, Any]:
        """Switch paying fees in BNB on or off; only a flag, since there is no BNB."""
        entry.required(params, "feeBurn")
        self.fee_burn = entry.flag(params, "feeBurn")
        return dict(DONE)

    def _refuse_when_busy(self, orders: int, position: int) -> None:
        venue = self._venue
        if any(venue.open_orders(symbol) or venue.algos.live[symbol] for symbol in venue.rules):
            raise Refused(orders)
        if any(p.qty for p in venue.account.positions.values()):
            raise Refused(position)
