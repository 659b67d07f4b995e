"""Liquidation judged anew when another client changed leverage or margin type in a trade, or the exchange called for margin.

An entry is refused when liquidation would lie too near (`risk.vetoes`); what a person or another program changes at the
exchange afterwards can bring it nearer than the stop. The change is reported at once. Then the distance is judged by the
position's isolated wallet as the exchange reports it after the change, which is asked for; without an answer by notional over
leverage.

* Liquidation before the stop: the position is closed, a liquidation is the dearer exit.
* Between the stop and `risk.liquidation_gap_r` beyond the catastrophe stop: that is reported.
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

ANSWER_MS: Final = 2_000  # for the position's wallet to be told; then the leverage alone is judged by
NEAR: Final = "liquidation_near"  # the exit's reason


@dataclass(slots=True)
class LiquidationWatch:
    """What was changed from outside, and what is still to be judged. Times in exchange ms."""

    crossed: list[str] = field(default_factory=list)  # symbols on cross margin
    due: dict[str, int] = field(default_factory=dict)  # when a position is judged at the latest
    since: dict[str, int] = field(default_factory=dict)  # when it was changed: only later reports count
    wallets: dict[str, tuple[Decimal, Decimal]] = field(
        default_factory=dict
    )  # isolated wallet and quantity, as told since

    def on_leverage(self, event: LeverageSet, market_state: MarketState, portfolio: Portfolio, out: list[Any]) -> None:
        """Take a symbol's leverage; while a position is open the bot itself changes none."""
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
        """Take a symbol's margin type: on cross margin nothing is entered."""
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
        """Report a margin call and judge what it names."""
        out.append(Alert("critical", f"margin call of the exchange: {', '.join(event.symbols) or 'no symbol named'}"))
        held = [symbol for symbol in event.symbols if portfolio.ledger.qty(symbol)]
        self._ask(held, event.at_ms, market_state, out)

    def on_report(self, event: AccountUpdate | AccountSnapshot) -> None:
        """Note the isolated wallets told after a change; 0 is a wallet that is not told."""
        for report in event.positions if self.due else ():
            since = self.since.get(report.symbol)
            if since is not None and event.at_ms > since and report.qty and report.isolated_wallet > 0:
                self.wallets[report.symbol] = (report.isolated_wallet, abs(report.qty))

    def advance(self, market_state: MarketState, portfolio: Portfolio, out: list[Any]) -> None:
        """Judge what has its answer, or has waited long enough for it."""
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
        """Return what speaks against an entry: the risk figures hold for isolated margin alone."""
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
        """Return the margin behind a position, None on cross margin, where it is not the position's own."""
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
