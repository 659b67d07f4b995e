"""The exchange's REST API in the bot's own types: callers see no library exceptions and no payloads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from bot.core.errors import BotError, WireError
from bot.core.events import AccountSnapshot, Fill, Funding, OrderUpdate, SessionStarted
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.klines import interval_ms
from bot.core.times import DAY_MS
from bot.core.types import Income, Kline, OrderReport, PositionReport, Quote
from bot.execution import replies, wire
from bot.execution.account_mode import ASSET_MODE, POSITION_MODE, ModeReading, ModeRefusal, judge, of_portfolio
from bot.execution.client import LocalClient
from bot.execution.limits import Lane, RequestLimits
from bot.execution.models_rest import AccountConfig, Commission, OpenOrder, SymbolConfig, TradeReply
from bot.execution.outcomes import (
    NO_SUCH_ORDER,
    NOT_PERMITTED,
    Accepted,
    Outcome,
    ReadFailed,
    Rejected,
    Unknown,
)
from bot.execution.rest import LONG_PATIENCE_MS, PATIENCE_MS, Call, Rest
from bot.execution.stamps import SENDING
from bot.execution.tasks import Tasks

TRADES_LIMIT = 1_000
TRADES_WINDOW_MS = 7 * DAY_MS - 1  # the longest range that userTrades accepts


@dataclass(frozen=True, slots=True)
class PreparedAccount:
    """The account after `prepare`: leverage per symbol, and what could not be changed."""

    leverage: dict[str, int]
    warnings: tuple[str, ...]


class Gateway(Rest):
    """Session, market, account and orders of one account; parameters as in `Rest`."""

    def __init__(self, client: LocalClient, tasks: Tasks, limits: RequestLimits) -> None:
        super().__init__(client, tasks, limits)
        self.fee_rates: dict[str, tuple[Decimal, Decimal]] = {}
        self.funding_hours: dict[str, int] = {}
        self._client_ids: dict[tuple[str, str], str] = {}  # (symbol, order id) -> client id

    # Session -----------------------------------------------------------------------------------------------------------

    async def load_session(self, symbols: Sequence[str], *, venue: str) -> SessionStarted:
        """Read filters, maintenance tiers, fees, wallet and request limits of the venue.

        Raises
        ------
        ReadFailed
            A read fails, or the exchange does not list one of the symbols.
        """
        client = self.client
        info = await self._read(
            "the instruments",
            client.futures_exchange_info,
            LONG_PATIENCE_MS,
            parse=lambda payload: replies.listing(payload, symbols),
        )
        if missing := [symbol for symbol in symbols if symbol not in info.symbols]:
            raise ReadFailed(f"the exchange does not list {', '.join(missing)}: check data.symbols")
        tiers = await self._read(
            "the leverage brackets",
            client.futures_leverage_bracket,
            LONG_PATIENCE_MS,
            parse=lambda payload: replies.tiers_of(payload, symbols),
        )
        fees = {symbol: await self._commission(symbol) for symbol in symbols}
        instruments = tuple(
            replace(info.symbols[s], tiers=tiers[s], maker_fee=fees[s].maker, taker_fee=fees[s].taker) for s in symbols
        )
        self.fee_rates = {i.symbol: (i.maker_fee, i.taker_fee) for i in instruments}
        for name, value in info.limits.items():
            setattr(self.limits, f"{name}_limit", value)
        await self._load_funding_hours()
        wallet = await self.wallet()
        return SessionStarted(self.tasks.clock.now_ms(), venue, wallet, instruments)

    async def _commission(self, symbol: str) -> Commission:
        return await self._read(
            f"the commission of {symbol}",
            self.client.futures_commission_rate,
            parse=lambda payload: replies.commission(payload, symbol),
            symbol=symbol,
        )

    async def _load_funding_hours(self) -> None:
        call = self.client.futures_v1_get_funding_info
        name = "the funding intervals"
        self.funding_hours = await self._read(name, call, LONG_PATIENCE_MS, parse=replies.funding_hours)

    async def wallet(self) -> Decimal:
        """Return the wallet balance in quote."""
        return await self._read("the balance", self.client.futures_account_balance, parse=replies.wallet_balance)

    async def prepare(self, symbols: Iterable[str], leverage: int) -> PreparedAccount:
        """Set one-way mode, single-asset mode, isolated margin and `leverage`, and read back what is in effect.

        What the exchange rejects stays unchanged and is reported as a warning.

        Raises
        ------
        BotError
            The account is still unsuitable (`account_mode`): the bot's orders and risk figures would be wrong.
        """
        symbols, warnings, refusals = tuple(symbols), list[str](), dict[str, ModeRefusal]()
        client = self.client
        mode, assets = client.futures_change_position_mode, client.futures_change_multi_assets_mode
        warnings += await self._set("one-way mode", -4059, POSITION_MODE, refusals, mode, dualSidePosition="false")
        warnings += await self._set("single-asset mode", -4171, ASSET_MODE, refusals, assets, multiAssetsMargin=False)
        for symbol in symbols:
            margin = {"symbol": symbol, "marginType": "ISOLATED"}
            call = client.futures_change_margin_type
            warnings += await self._set(f"isolated margin of {symbol}", -4046, symbol, refusals, call, **margin)
            name, call = f"leverage {leverage} of {symbol}", client.futures_change_leverage
            warnings += await self._set(name, 0, "", {}, call, symbol=symbol, leverage=str(leverage))
        reading, found = await self.read_mode(symbols, refusals=refusals)
        for finding in judge(reading):
            raise BotError(str(finding))
        return PreparedAccount(found, tuple(warnings))

    async def _set(
        self, what: str, fine: int, key: str, refusals: dict[str, ModeRefusal], call: Call, **params: Any
    ) -> list[str]:
        """Change one setting; return the warning and keep the rejection unless its code is `fine` ("already set")."""
        outcome = await self._write(Lane.READ, call, params)
        if isinstance(outcome, Rejected) and outcome.code != fine:
            if outcome.code in NOT_PERMITTED and not of_portfolio(outcome.message):
                raise ReadFailed(
                    f"cannot set {what}: {outcome.message} ({outcome.code}); check the API key and its permissions"
                )
            refusals[key] = ModeRefusal(outcome.code, outcome.message)
            return [f"{what} not set: {outcome.message} ({outcome.code})"]
        if isinstance(outcome, Unknown):
            refusals[key] = ModeRefusal(0, outcome.reason)
            return [f"{what} perhaps not set: {outcome.reason}"]
        return []

    async def read_mode(
        self, symbols: Sequence[str], *, refusals: Mapping[str, ModeRefusal] | None = None, portfolio_key: bool = False
    ) -> tuple[ModeReading, dict[str, int]]:
        """Return the settings that `account_mode` judges, and the leverage of each symbol."""
        account = await self.account_config()
        assets = frozenset[str]()
        if account.is_multi_assets:
            call = self.client.futures_account_balance
            assets = await self._read("the balance", call, parse=replies.funded_assets)
        crossed, leverage = [], {}
        for symbol in symbols:
            config = await self.symbol_config(symbol)
            if not config.is_isolated:
                crossed.append(symbol)
            leverage[symbol] = config.leverage
        reading = ModeReading(
            account.is_hedged, account.is_multi_assets, tuple(crossed), assets, portfolio_key, refusals
        )
        return reading, leverage

    async def account_config(self) -> AccountConfig:
        """Return accountConfig: position mode, multi-assets mode, permission to trade."""
        call = self.client.futures_account_config
        return await self._read("the account's settings", call, parse=replies.account_config)

    async def fees_in_bnb(self) -> bool:
        """Return whether the account pays fees in BNB while it holds any."""
        return await self._read("how fees are paid", self.client.futures_v1_get_fee_burn, parse=replies.fees_in_bnb)

    async def symbol_config(self, symbol: str) -> SymbolConfig:
        """Return symbolConfig of one symbol: margin type and leverage."""
        return await self._read(
            f"the settings of {symbol}",
            self.client.futures_symbol_config,
            parse=lambda payload: replies.symbol_config(payload, symbol),
            symbol=symbol,
        )

    # Market ------------------------------------------------------------------------------------------------------------

    async def klines(self, symbol: str, interval: str, start_ms: int, end_ms: int | None = None) -> list[Kline]:
        """Return the closed bars with open time in [start_ms, end_ms), in order and without duplicates.

        A bar counts as closed if it ended before the request was sent, by the exchange's clock.

        Parameters
        ----------
        start_ms, end_ms
            UTC epoch ms; without `end_ms` all closed bars from `start_ms` on.
        interval
            Binance's name, such as "15m".
        """
        step = interval_ms(interval)
        result: list[Kline] = []
        while True:
            asked_ms = self.tasks.clock.now_ms()
            last_open = asked_ms - step if end_ms is None else min(end_ms - 1, asked_ms - step)
            if start_ms > last_open:
                return result
            wanted = (last_open - start_ms) // step + 1
            limit = 99 if wanted <= 99 else 499 if wanted <= 499 else 1_000  # cheapest weight per row
            params = {"symbol": symbol, "interval": interval, "startTime": str(start_ms), "endTime": str(last_open)}
            patience = PATIENCE_MS if limit == 99 else LONG_PATIENCE_MS
            name, call = f"klines of {symbol}", self.client.futures_klines

            def parse(payload: Any) -> list[Kline]:
                rows = replies.klines(payload, symbol, interval_ms=step)
                self._in_time(bar.open_ms for bar in rows)
                return rows

            rows = await self._read(name, call, patience, parse=parse, **params, limit=str(limit))
            page = [bar for bar in rows if start_ms <= bar.open_ms <= last_open]
            if not page:
                return result
            result.extend(page)
            start_ms = page[-1].open_ms + step

    async def funding(self, symbol: str) -> Funding:
        """Return the current funding of one symbol."""
        if not self.funding_hours:
            await self._load_funding_hours()

        def parse(payload: Any) -> Funding:
            found = replies.funding(payload, symbol, hours=self.funding_hours.get(symbol, 8))
            self._in_time((found.at_ms,))
            return found

        return await self._read(f"the funding of {symbol}", self.client.futures_mark_price, parse=parse, symbol=symbol)

    async def quote(self, symbol: str) -> Quote:
        """Return the best bid and ask of one symbol."""
        return await self._read(
            f"the book of {symbol}",
            self.client.futures_orderbook_ticker,
            parse=lambda payload: replies.quote(payload, symbol),
            symbol=symbol,
        )

    # Account -----------------------------------------------------------------------------------------------------------

    async def positions(self, symbols: Sequence[str] = ()) -> tuple[PositionReport, ...]:
        """Return the open positions (of `symbols`, or all)."""

        def parse(payload: Any) -> list[PositionReport]:
            found = replies.positions(payload)
            self._in_time(report.update_ms for report in found)
            return found

        reports = await self._read("the positions", self.client.futures_position_information, parse=parse)
        return tuple(r for r in reports if r.qty != 0 and (not symbols or r.symbol in symbols))

    async def open_orders(self, symbols: Sequence[str]) -> tuple[OrderReport, ...]:
        """Return the working orders of `symbols`, regular and algo."""

        async def regular(symbol: str) -> list[OrderReport]:
            def parse(payload: Any) -> list[OpenOrder]:
                found = replies.orders(payload, symbol)
                self._in_time(order.update_ms for order in found)
                return found

            call = self.client.futures_get_open_orders
            found = await self._read(f"orders of {symbol}", call, parse=parse, symbol=symbol)
            for order in found:
                self._remember(order.symbol, order.order_id, order.client_id)
            return [report for order in found if (report := replies.order_report(order)) is not None]

        async def algo(symbol: str) -> list[OrderReport]:
            def parse(payload: Any) -> list[OrderReport]:
                found = replies.algo_reports(payload, symbol)
                self._in_time(report.update_ms for report in found)
                return found

            call = self.client.futures_get_open_algo_orders
            return await self._read(f"stops of {symbol}", call, parse=parse, symbol=symbol)

        parts = await self.tasks.together(*(read(s) for s in symbols for read in (regular, algo)))
        return tuple(report for part in parts for report in part)

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Return the account's fills of one symbol since a time, with the client ids of their orders."""

        def parse(payload: Any) -> list[TradeReply]:
            found = replies.trades(payload, symbol)
            self._in_time(trade.at_ms for trade in found)
            return found

        now = self.tasks.clock.now_ms()
        start, seen = min(since_ms, now), dict[int, TradeReply]()
        while start <= now:
            end = start + TRADES_WINDOW_MS
            lines = await self._read(
                f"trades of {symbol}",
                self.client.futures_account_trades,
                parse=parse,
                symbol=symbol,
                startTime=str(start),
                endTime=str(end),
                limit=str(TRADES_LIMIT),
            )
            fresh = [line for line in lines if line.trade_id not in seen]
            seen.update((line.trade_id, line) for line in fresh)
            full = len(lines) >= TRADES_LIMIT and bool(fresh)
            start = max(start + 1, *(line.at_ms for line in fresh)) if full else end + 1
        result = []
        for trade in sorted(seen.values(), key=lambda line: (line.at_ms, line.trade_id)):
            client_id = trade.client_id or await self._client_id(symbol, trade.order_id)
            result.append(replies.fill(trade, client_id, rates=self.fee_rates))
        return result

    def _remember(self, symbol: str, order_id: str, client_id: str) -> None:
        if len(self._client_ids) > 20_000:
            for key in list(self._client_ids)[:10_000]:
                del self._client_ids[key]
        self._client_ids[symbol, order_id] = client_id

    def know_orders(self, orders: Iterable[tuple[str, str, str]]) -> None:
        """Store symbol, order id and client id of orders, so that their trades need no query."""
        self._client_ids.update({(symbol, order_id): client_id for symbol, order_id, client_id in orders})

    async def _client_id(self, symbol: str, order_id: str) -> str:
        key = (symbol, order_id)
        if key not in self._client_ids:
            self._client_ids[key] = await self._read(
                f"order {order_id} of {symbol}",
                self.client.futures_get_order,
                parse=lambda payload: replies.client_id(payload, symbol, order_id),
                symbol=symbol,
                orderId=order_id,
            )
        return self._client_ids[key]

    async def income(self, since_ms: int) -> tuple[Income, ...]:
        """Return the account's income entries in the quote asset since a time, oldest first."""

        def parse(payload: Any) -> tuple[int, list[Income]]:
            count, entries = replies.incomes(payload)
            self._in_time(entry.at_ms for entry in entries)
            return count, entries

        found: dict[tuple[str, int], Income] = {}
        start = since_ms
        while True:
            call, name = self.client.futures_income_history, "the account's bookings"
            count, page = await self._read(name, call, parse=parse, startTime=str(start), limit=str(TRADES_LIMIT))
            fresh = [entry for entry in page if (entry.kind, entry.number) not in found]
            found.update(((entry.kind, entry.number), entry) for entry in fresh)
            if count < TRADES_LIMIT or not fresh:
                return tuple(sorted(found.values(), key=lambda entry: (entry.at_ms, entry.number)))
            start = max(start + 1, *(entry.at_ms for entry in fresh))

    async def snapshot(self, symbols: Sequence[str], since_ms: int, *, income_since_ms: int = 0) -> AccountSnapshot:
        """Return positions, wallet, working orders and the fills since a time, as of one instant.

        With `income_since_ms` the income entries since then are read too.

        The parts come in separate replies. Positions are therefore read before and after the rest, and everything is read
        again (at most three times) while they differ; `at_ms` is the time before the last round.
        """
        positions = await self.positions(symbols)
        rounds = 0
        while True:
            rounds += 1
            at_ms = self.tasks.clock.now_ms()
            orders, wallet, *fills = await self.tasks.together(
                self.open_orders(symbols), self.wallet(), *(self.fills(symbol, since_ms) for symbol in symbols)
            )
            before, positions = positions, await self.positions(symbols)
            if rounds == 3 or {p.symbol: p.qty for p in before} == {p.symbol: p.qty for p in positions}:
                break
        every_fill = sorted((f for part in fills for f in part), key=lambda f: (f.at_ms, f.symbol, f.trade_id))
        income = await self.income(income_since_ms) if income_since_ms else None
        return AccountSnapshot(at_ms, wallet, positions, orders, tuple(every_fill), income)

    # Orders ------------------------------------------------------------------------------------------------------------

    async def place(self, intent: PlaceOrder) -> Outcome:
        """Send one order; a stop goes to the algo service."""
        lane = Lane.EXIT if wire.is_exit(intent) else Lane.ENTRY
        call = self.client.futures_create_algo_order if intent.algo else self.client.futures_create_order
        SENDING.set(intent.client_id)  # for this task and those that it starts
        outcome = await self._write(lane, call, wire.place_params(intent))
        SENDING.set("")
        return self._with_update(outcome, intent.client_id, intent.symbol, algo=intent.algo)

    async def cancel(self, intent: CancelOrder, *, known: PlaceOrder | None = None) -> Outcome:
        """Cancel one order; `known` is the order as placed, because the reply for a stop holds only its ids."""
        call = self.client.futures_cancel_algo_order if intent.algo else self.client.futures_cancel_order
        outcome = await self._write(Lane.EXIT, call, wire.cancel_params(intent), PATIENCE_MS)
        if not intent.algo or not isinstance(outcome, Accepted):
            return self._with_update(outcome, intent.client_id, intent.symbol, algo=False)
        if known is None:
            return await self.query(intent.client_id, intent.symbol, algo=True)
        now = self.tasks.clock.now_ms()
        try:
            update = replies.canceled(outcome.payload, known, at_ms=now)
        except WireError as error:
            return self._unfit("cancel", error)
        return Accepted(outcome.payload, update)

    async def query(self, client_id: str, symbol: str, *, algo: bool = False) -> Outcome:
        """Query one order by its client id: accepted with its state, rejected with -2013, or unknown.

        A triggered stop continues as a regular order with the same client id, whose state is then returned.
        """
        await self.limits.clearance(Lane.QUERY)
        call = self.client.futures_get_algo_order if algo else self.client.futures_get_order
        params = self._lookup(client_id, symbol, algo=algo)
        outcome = self._with_update(await self._send(call, params, PATIENCE_MS), client_id, symbol, algo=algo)
        if algo and isinstance(outcome, Accepted) and replies.has_triggered(outcome.payload):
            params = self._lookup(client_id, symbol, algo=False)
            call = self.client.futures_get_order
            reply = await self._send(call, params, PATIENCE_MS)
            regular = self._with_update(reply, client_id, symbol, algo=False)
            if isinstance(regular, Accepted):
                return regular
        return outcome

    @staticmethod
    def _lookup(client_id: str, symbol: str, *, algo: bool) -> dict[str, Any]:
        return dict(wire.lookup_params(client_id, symbol, algo=algo))

    def _with_update(self, outcome: Outcome, client_id: str, symbol: str, *, algo: bool) -> Outcome:
        """Read the order's state from an accepted reply; one that does not fit leaves the outcome unknown."""
        if not isinstance(outcome, Accepted):
            return outcome
        try:
            update = (replies.algo_order_update if algo else replies.order_update)(outcome.payload)
            if update.client_id != client_id:
                raise WireError(f"the exchange answered about order {update.client_id} when {client_id} was asked for")
            replies.about(symbol, update.symbol)
            self._in_time((update.at_ms,))
        except WireError as error:
            return self._unfit("order", error)
        if not algo:
            self._remember(symbol, update.order_id, client_id)
        return Accepted(outcome.payload, update)

    async def find_trades(self, client_id: str, symbol: str, since_ms: int) -> OrderUpdate | None:
        """Return the order's state if any trade since a time belongs to it, which disproves "no such order".

        Raises
        ------
        ReadFailed
            The trades cannot be read, or the order has trades but cannot be queried.
        """
        for fill in await self.fills(symbol, since_ms):
            if fill.client_id == client_id:
                outcome = await self.query(client_id, symbol)
                if isinstance(outcome, Accepted):
                    return outcome.update
                raise ReadFailed(f"order {client_id} has trades but cannot be read")
        return None

    async def set_leverage(self, symbol: str, leverage: int) -> Outcome:
        """Set one symbol's leverage; the payload of `Accepted` is the leverage in effect."""
        call = self.client.futures_change_leverage
        outcome = await self._write(Lane.EXIT, call, {"symbol": symbol, "leverage": str(leverage)})
        if not isinstance(outcome, Accepted):
            return outcome
        try:
            return Accepted(replies.leverage(outcome.payload, symbol))
        except WireError as error:
            return self._unfit("leverage", error)

    async def cancel_all(self, symbol: str) -> list[Outcome]:
        """Cancel every order of one symbol, regular and algo (`flatten` without a running bot)."""
        calls = (self.client.futures_cancel_all_open_orders, self.client.futures_cancel_all_algo_open_orders)
        return [await self._write(Lane.EXIT, call, {"symbol": symbol}) for call in calls]


def is_absent(outcome: Outcome) -> bool:
    """Return whether a query found no such order."""
    return isinstance(outcome, Rejected) and outcome.code == NO_SUCH_ORDER
