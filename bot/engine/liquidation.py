"""Recheck the liquidation price after an external change of leverage or margin type during a trade, or a margin call.

An entry is refused when liquidation would be too near (`risk.vetoes`); a later change at the exchange, by a person or another
program, can bring it nearer than the stop. The change is reported at once. Then the distance is computed from the position's
isolated wallet as the exchange reports it after the change, which is requested; the fallback without a reply is notional over
leverage.

* Liquidation before the stop: the position is closed, because a liquidation is the more expensive exit.
* Between the stop and `risk.liquidation_gap_r` beyond the catastrophe stop: an alert is sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from bot.core.events import AccountSnapshot, AccountUpdate, LeverageSet, MarginCall, MarginTypeSet
from bot.core.intents import Alert, RequestSnapshot
from bot.core.types import Denied, to_decimal
from bot.engine.market_state import MarketState
from bot.engine.portfolio import Portfolio
from bot.orders.bracket import Bracket
from bot.risk.sizing import liquidation_at

ANSWER_MS: Final = 2_000  # time for the position's wallet to be reported; then leverage is the fallback
NEAR: Final = "liquidation_near"  # exit reason


@dataclass(slots=True)
class LiquidationWatch:
    """External changes of margin, and the pending checks. Times in exchange ms."""

    crossed: list[str] = field(default_factory=list)  # symbols on cross margin
    due: dict[str, int] = field(default_factory=dict)  # deadline of the check of a position
    since: dict[str, int] = field(default_factory=dict)  # when it was changed: only later reports count
    wallets: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)  # isolated wallet and quantity since

    def on_leverage(self, event: LeverageSet, market_state: MarketState, portfolio: Portfolio, out: list[Any]) -> None:
        """Store a symbol's leverage; a change with a position open is external, because the bot makes none then.

        Parameters
        ----------
        market_state
            Holds the leverage in force; updated.
        portfolio
            Gives the open position.
        out
            List that intents are appended to.
        """
        before = market_state.leverage.get(event.symbol)
        market_state.leverage[event.symbol] = event.leverage
        if before is None or before == event.leverage or not portfolio.ledger.qty(event.symbol):
            return
        text = f"{event.symbol}: leverage changed from {before}x to {event.leverage}x with a position open, not by this bot"
        out.append(Alert("critical", text))
        self._ask((event.symbol,), event.at_ms, market_state, out)

    def on_margin_type(
        self, event: MarginTypeSet, market_state: MarketState, portfolio: Portfolio, out: list[Any]
    ) -> None:
        """Store a symbol's margin type: there are no entries on cross margin.

        Parameters
        ----------
        market_state
            Gives the time.
        portfolio
            Gives the open position.
        out
            List that intents are appended to.
        """
        if (event.symbol in self.crossed) is not event.isolated:
            return
        (self.crossed.remove if event.isolated else self.crossed.append)(event.symbol)
        old, new = ("cross", "isolated") if event.isolated else ("isolated", "cross")
        if not portfolio.ledger.qty(event.symbol):
            text = f"{event.symbol}: margin type changed from {old} to {new}, not by this bot"
            out.append(Alert("info" if event.isolated else "warning", text))
            return
        risk = "" if event.isolated else "; the futures wallet stands behind it now"
        text = f"{event.symbol}: margin type changed from {old} to {new} with a position open, not by this bot{risk}"
        out.append(Alert("critical", text))
        self._ask((event.symbol,), event.at_ms, market_state, out)

    def on_margin_call(
        self, event: MarginCall, market_state: MarketState, portfolio: Portfolio, out: list[Any]
    ) -> None:
        """Report a margin call and check the symbols that it names.

        Parameters
        ----------
        market_state
            Gives the time.
        portfolio
            Gives the open positions.
        out
            List that intents are appended to.
        """
        out.append(Alert("critical", f"margin call of the exchange: {', '.join(event.symbols) or 'no symbol named'}"))
        held = [symbol for symbol in event.symbols if portfolio.ledger.qty(symbol)]
        self._ask(held, event.at_ms, market_state, out)

    def on_report(self, event: AccountUpdate | AccountSnapshot) -> None:
        """Store the isolated wallets reported after a change; 0 means not reported."""
        for report in event.positions if self.due else ():
            since = self.since.get(report.symbol)
            if since is not None and event.at_ms > since and report.qty and report.isolated_wallet > 0:
                self.wallets[report.symbol] = (report.isolated_wallet, abs(report.qty))

    def advance(self, market_state: MarketState, portfolio: Portfolio, out: list[Any]) -> None:
        """Check the positions whose wallet was reported or whose deadline has passed."""
        for symbol, due in list(self.due.items()):
            bracket = portfolio.bracket(symbol)
            if bracket is None or bracket.held <= 0:
                self._forget(symbol)
            elif symbol in self.wallets or market_state.now >= due:
                wallet = self._wallet(symbol, bracket, market_state)
                self._forget(symbol)
                if wallet is not None:
                    self._judge(bracket, wallet, market_state, portfolio, out)

    def denied(self, symbols: Iterable[str]) -> list[Denied]:
        """Return the refusals of an entry: the risk figures hold for isolated margin only."""
        crossed = [symbol for symbol in symbols if symbol in self.crossed]
        return [Denied("margin_type", f"{', '.join(crossed)} on cross margin: set it to isolated")] if crossed else []

    def _ask(self, symbols: Iterable[str], at_ms: int, market_state: MarketState, out: list[Any]) -> None:
        asked = list(symbols)
        for symbol in asked:
            self.since[symbol], self.due[symbol] = at_ms, market_state.now + ANSWER_MS
            self.wallets.pop(symbol, None)
        if asked:
            out.append(RequestSnapshot(f"the margin of {', '.join(asked)} was changed"))

    def _forget(self, symbol: str) -> None:
        for kept in (self.due, self.since, self.wallets):
            kept.pop(symbol, None)

    def _wallet(self, symbol: str, bracket: Bracket, market_state: MarketState) -> Decimal | None:
        """Return the margin behind a position in quote; None on cross margin, where it is not the position's own."""
        if symbol in self.crossed:
            return None
        told = self.wallets.get(symbol)
        if told is not None:
            return told[0] * bracket.held / told[1]
        leverage = market_state.leverage.get(symbol)
        return bracket.average * bracket.held / leverage if leverage else None

    def _judge(
        self, bracket: Bracket, wallet: Decimal, market_state: MarketState, portfolio: Portfolio, out: list[Any]
    ) -> None:
        trade = portfolio.trade
        if trade is None or bracket.closing:
            return
        sign, stop = bracket.side.sign, bracket.stop
        price = bracket.instrument.price(
            liquidation_at(bracket.side, bracket.average, bracket.held, wallet, bracket.instrument)
        )
        if sign * (price - stop) >= 0:
            out.append(
                Alert("critical", f"{bracket.symbol}: liquidation at {price} comes before the stop {stop}: closing")
            )
            if bracket is trade.bracket:
                trade.close(NEAR)
            else:
                bracket.exit(NEAR)
            return
        last = bracket.catastrophe if bracket.catastrophe is not None else stop
        unit = trade.plan.risk_per_unit if bracket is trade.bracket else abs(bracket.average - stop)
        edge = last - sign * to_decimal(market_state.config.risk.liquidation_gap_r) * unit
        if sign * (price - edge) > 0:
            text = (
                f"{bracket.symbol}: liquidation at {price} lies too near behind the stop {stop}, nearer than {edge:.2f}"
            )
            out.append(Alert("critical", text))
