"""Account endpoints of REST: balances, positions, trades, income and settings, in Binance's shapes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bot.sim import balances, payloads
from bot.sim.errors import Refused
from bot.sim.public import whole
from bot.sim.trading import WEEK_MS, symbols, window, within_week

if TYPE_CHECKING:
    from bot.sim.server import Exchange
    from bot.sim.venue import Venue

Params = dict[str, str]
KEY_PERMISSIONS = {
    "ipRestrict": True,
    "createTime": 1_698_645_219_000,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "enableMargin": False,
    "enableFutures": True,
    "permitsUniversalTransfer": False,
    "enableVanillaOptions": False,
    "enableSpotAndMarginTrading": False,
    "enablePortfolioMarginTrading": False,
}


class PrivateApi:
    """Handlers by `METHOD path`: `writes` change something, `reads` do not, `keyed` need a key but no signature.

    Parameters
    ----------
    venue : Venue
        The venue to read and change: the exchange's own, or a past state of it for stale reads.
    """

    def __init__(self, exchange: "Exchange", venue: "Venue") -> None:
        self._x, self._venue = exchange, venue
        settings = venue.settings
        self.writes: dict[str, Callable[[Params], Any]] = {
            "POST /fapi/v1/leverage": settings.set_leverage,
            "POST /fapi/v1/marginType": settings.set_margin_type,
            "POST /fapi/v1/positionMargin": settings.move_margin,
            "POST /fapi/v1/positionSide/dual": settings.set_dual,
            "POST /fapi/v1/multiAssetsMargin": settings.set_multi,
            "POST /fapi/v1/feeBurn": settings.set_fee_burn,
        }
        self.reads: dict[str, Callable[[Params], Any]] = {
            "GET /fapi/v1/userTrades": self.user_trades,
            "GET /fapi/v1/income": self.income,
            "GET /fapi/v1/forceOrders": self.force_orders,
            "GET /fapi/v1/positionMargin/history": self.margin_moves,
            "GET /fapi/v2/account": lambda p: balances.account_reply(venue, version=2),
            "GET /fapi/v3/account": lambda p: balances.account_reply(venue, version=3),
            "GET /fapi/v2/balance": lambda p: balances.balance_rows(venue),
            "GET /fapi/v3/balance": lambda p: balances.balance_rows(venue),
            "GET /fapi/v2/positionRisk": lambda p: self.positions(p, 2),
            "GET /fapi/v3/positionRisk": lambda p: self.positions(p, 3),
            "GET /fapi/v1/positionSide/dual": lambda p: {"dualSidePosition": settings.dual},
            "GET /fapi/v1/multiAssetsMargin": lambda p: {"multiAssetsMargin": settings.multi_assets},
            "GET /fapi/v1/feeBurn": lambda p: {"feeBurn": settings.fee_burn},
            "GET /fapi/v1/leverageBracket": self.brackets,
            "GET /fapi/v1/commissionRate": self.commission,
            "GET /fapi/v1/accountConfig": self.account_config,
            "GET /fapi/v1/symbolConfig": self.symbol_config,
            "GET /fapi/v1/adlQuantile": self.adl_quantile,
            "GET /fapi/v1/rateLimit/order": self.order_limits,
            "GET /sapi/v1/account/apiRestrictions": self.permissions,
        }
        self.keyed: dict[str, Callable[[Params], Any]] = {
            "POST /fapi/v1/listenKey": lambda p: {"listenKey": self._x.keys.create()},
            "PUT /fapi/v1/listenKey": lambda p: {"listenKey": self._x.keys.extend()},
            "DELETE /fapi/v1/listenKey": lambda p: self._x.keys.delete(),
        }

    # -- the account ------------------------------------------------------------------------------------------------

    def positions(self, params: Params, version: int) -> Any:
        """Return positions: v3 only those that are open or have orders, v2 all."""
        venue = self._venue
        sides = ("LONG", "SHORT") if venue.settings.dual else ("BOTH",)
        return [
            balances.position_reply(venue, symbol, version=version, side=side)
            for symbol in symbols(self._venue, params)
            for side in sides
            if version < 3 or venue.account.positions[symbol].qty or venue.open_orders(symbol)
        ]

    def user_trades(self, params: Params) -> Any:
        """Return fills, oldest first: from a trade id on, or at most a week of them.

        Raises
        ------
        Refused
            -1128 if fromId is combined with a time.
        """
        symbol, first, order = self._venue.symbol_of(params), whole(params, "fromId"), whole(params, "orderId")
        fills = [
            fill
            for fill in self._venue.fills
            if fill.order.symbol == symbol
            and (order is None or fill.order.order_id == order)
            and fill.trade_id >= (first or 0)
            and self._venue.now_ms - fill.at_ms <= self._venue.quirks.fill_memory_ms
        ]
        rows = [payloads.fill_reply(self._venue, fill) for fill in fills]
        if first is not None:
            if params.get("startTime") or params.get("endTime"):
                raise Refused(-1128)
            return window(rows, params, "time", ascending_from_id=True)
        return window(within_week(rows, params, "time", now_ms=self._venue.now_ms), params, "time")

    def income(self, params: Params) -> Any:
        """Return income rows: without a time those of the last seven days, as documented."""
        kind, symbol, venue = params.get("incomeType"), params.get("symbol"), self._venue
        rows = [
            row
            for row in venue.incomes
            if (not kind or row["incomeType"] == kind)
            and (not symbol or row["symbol"] == symbol)
            and venue.now_ms - row["time"] <= venue.quirks.fill_memory_ms
        ]
        if not params.get("startTime") and not params.get("endTime"):
            rows = [row for row in rows if venue.now_ms - row["time"] <= WEEK_MS]
        return window(rows, params, "time", default=100)

    def brackets(self, params: Params) -> Any:
        """Return the maintenance tiers."""
        return [self._venue.rules[symbol].brackets() for symbol in symbols(self._venue, params)]

    def commission(self, params: Params) -> Any:
        """Return the commission rates."""
        return {
            "symbol": self._venue.symbol_of(params),
            "makerCommissionRate": f"{self._venue.maker_fee:.6f}",
            "takerCommissionRate": f"{self._venue.taker_fee:.6f}",
            "rpiCommissionRate": "0.000000",
        }

    def account_config(self, params: Params) -> Any:
        """Return the account's settings."""
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": self._venue.settings.dual,
            "updateTime": 0,
            "multiAssetsMargin": self._venue.settings.multi_assets,
            "tradeGroupId": -1,
        }

    def symbol_config(self, params: Params) -> Any:
        """Return the symbols' settings."""
        rows = []
        for symbol in symbols(self._venue, params):
            p = self._venue.account.positions[symbol]
            rows.append(
                {
                    "symbol": symbol,
                    "marginType": "ISOLATED" if p.isolated else "CROSSED",
                    "isAutoAddMargin": False,
                    "leverage": p.leverage,
                    "maxNotionalValue": f"{p.rules.cap(p.leverage):f}",
                }
            )
        return rows

    def force_orders(self, params: Params) -> Any:
        """Return the exchange's own orders: liquidations and ADL."""
        wanted = {"LIQUIDATION": "liquidation", "ADL": "adl"}.get(params.get("autoCloseType", ""))
        found = symbols(self._venue, params)
        rows = [
            payloads.order_reply(self._venue, order)
            for order in self._venue.orders.values()
            if order.forced and order.symbol in found and wanted in (None, order.forced)
        ]
        return window(rows, params, "time", default=50)

    def margin_moves(self, params: Params) -> Any:
        """Return the user's margin transfers."""
        symbol = self._venue.symbol_of(params)
        rows = [row for row in self._venue.settings.margin_moves if row["symbol"] == symbol]
        return window(rows, params, "time")

    def adl_quantile(self, params: Params) -> Any:
        """Return ADL quantiles, always 0: there is no queue here."""
        return [{"symbol": symbol, "adlQuantile": {"BOTH": 0}} for symbol in symbols(self._venue, params)]

    def order_limits(self, params: Params) -> Any:
        """Return the order rate limits."""
        rows = self._x.limits.rates(self._x.clock.now_ms())
        kept = ("rateLimitType", "interval", "intervalNum", "limit")
        return [{name: row[name] for name in kept} for row in rows if row["rateLimitType"] == "ORDERS"]

    def permissions(self, params: Params) -> Any:
        """Return the key's permissions."""
        portfolio = self._venue.quirks.account == "portfolio"
        return self._x.key_permissions | ({"enablePortfolioMarginTrading": True} if portfolio else {})
