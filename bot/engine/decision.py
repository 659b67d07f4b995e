"""The single decision on a closed BTC bar: conditions, vetoes, plan, size, cost, hedge (strategy 2 to 4, 7 and 8).

Pure: the known state goes in, an EntryVerdict comes out. All refusals that apply are collected; the first gives the decision its
code, the others are listed next to it, so that one veto does not hide the rest.
"""

import math
from dataclasses import dataclass
from decimal import Decimal

from bot.core.records import Decision
from bot.core.times import MINUTE_MS
from bot.core.types import Denied, Kline, Quote, Side, to_decimal
from bot.engine.market_state import BASE_MS, MarketState
from bot.hedge import beta
from bot.orders.maker_taker import maker_price, taker_limit
from bot.risk import vetoes
from bot.risk.account import Account
from bot.risk.cost import expected_cost
from bot.risk.limits import Limits
from bot.risk.sizing import Size, size
from bot.risk.vetoes import VetoEvent
from bot.strategy import evidence, setup
from bot.strategy.rules import Row, column
from bot.strategy.setup import TradePlan

Values = dict[str, float | str]


@dataclass(frozen=True, slots=True)
class EntryOrder:
    """A setup that may be entered."""

    plan: TradePlan
    size: Size
    quote: Quote
    hedge: beta.HedgePlan
    cost_r: float
    late: tuple[str, ...]  # legs whose bar had not arrived


@dataclass(frozen=True, slots=True)
class EntryVerdict:
    """A decision, and the setup if it is to be entered."""

    decision: Decision
    order: EntryOrder | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """The inputs of a decision."""

    market_state: MarketState
    account: Account
    limits: Limits
    legs: tuple[str, ...]
    calendar: tuple[VetoEvent, ...]

    @property
    def alpha(self) -> str:
        """The traded symbol; the others hedge it."""
        return self.market_state.config.data.symbols[0]

    def decide(self, kline: Kline, row: Row | None, refusals: list[Denied]) -> EntryVerdict:
        """Return the verdict on one closed BTC bar.

        Parameters
        ----------
        row
            The bar's values; None if the bar was rejected.
        refusals
            Reasons against an entry that do not depend on the bar: a trade is open, entries are off, ...
        """
        if row is None or not self.market_state.instruments:
            why = Denied("no_bar", "the bar was refused") if row is None else Denied("no_session", "no venue yet")
            return self._verdict(kline, evidence.NO_FLAGS, evidence.NO_FLAGS, 0, why, {})
        long, short = evidence.flags(row, Side.LONG), evidence.flags(row, Side.SHORT)
        values: Values = evidence.numbers(row, long, short)
        late = tuple(s for s in self.legs if self.market_state.series[s].last_open_ms < kline.open_ms)
        if late:
            values["legs_missing"] = " ".join(late)
        signal = evidence.signal(row)
        if signal == 0:
            return self._verdict(kline, long, short, 0, self._why_not(row, long, short), values)
        side = Side(signal)
        denied = [*refusals, *self._market(side, kline), *self.limits.vetoes(side)]
        order = self._plan(row, side, kline, late, values, denied)
        if denied or order is None:
            if len(denied) > 1:
                values["vetoes"] = " ".join(d.code for d in denied)
            return self._verdict(kline, long, short, signal, denied[0], values)
        block = order.plan.block_id
        reason = f"{side.name} from block {block:.0f}" if math.isfinite(block) else side.name
        return self._verdict(kline, long, short, signal, Denied("entered", reason), values, order)

    def _verdict(
        self,
        kline: Kline,
        long: evidence.Flags,
        short: evidence.Flags,
        signal: int,
        why: Denied,
        values: Values,
        order: EntryOrder | None = None,
    ) -> EntryVerdict:
        decision = Decision(self.market_state.now, kline.open_ms, long, short, signal, why.code, why.reason, values)
        return EntryVerdict(decision, order)

    def _why_not(self, row: Row, long: evidence.Flags, short: evidence.Flags) -> Denied:
        if column(row, "ready") == 0.0:
            return Denied("warm_up", "the indicators have not seen enough bars")
        wanted = tuple(name for name, on in self.market_state.config.strategy.gates.model_dump().items() if on)
        for side, held in ((Side.LONG, long), (Side.SHORT, short)):
            if all(held):
                closed = ", ".join(evidence.closed_gates(row, side, wanted)) or "rating, strength or age"
                return Denied("gates", f"{side.name}: all six hold, but not {closed}")
            lacking = evidence.missing(held, side)
            if lacking:
                return Denied("no_signal", f"{side.name}: five of six, {lacking} is missing")
        return Denied("no_signal", f"{sum(long)} of six long, {sum(short)} of six short")

    def _market(self, side: Side, kline: Kline) -> list[Denied]:
        """Return the refusals by venue and market state, which need no plan."""
        market_state, config, alpha = self.market_state, self.market_state.config, self.alpha
        denied: list[Denied | None] = []
        if market_state.lost:
            denied.append(Denied("feed_lost", f"no data from {', '.join(sorted(market_state.lost))}"))
        age = market_state.now - kline.close_ms
        if age > config.entry.max_data_age_ms:
            denied.append(Denied("stale", f"the bar is {age} ms old, allowed {config.entry.max_data_age_ms}"))
        quote = market_state.quote(alpha)
        if quote is None:
            last = market_state.quotes.get(alpha)
            told = f"is {market_state.now - last[1]} ms old" if last else "never came"
            denied.append(Denied("stale", f"the quote {told}"))
        else:
            denied.append(vetoes.spread(quote, config.entry.max_spread))
        if not market_state.instruments[alpha].trading:
            denied.append(Denied("venue", f"{alpha} is not in normal trading"))
        wanted = market_state.wanted_leverage(alpha, self.limits.leverage)
        if market_state.leverage.get(alpha) != wanted:
            denied.append(
                Denied("leverage", f"{alpha} stands at {market_state.leverage.get(alpha)}x, wanted {wanted}x")
            )
        funding = market_state.funding.get(alpha)
        denied.append(
            vetoes.funding(
                side,
                float(funding.rate) if funding else None,
                interval_hours=funding.interval_hours if funding else 8,
                limit=config.risk.max_funding_rate,
                rule=config.risk.funding_rule,
            )
        )
        denied.append(
            vetoes.blackout(
                market_state.now, self.calendar, minutes=config.events.minutes, impacts=config.events.impact
            )
        )
        return [d for d in denied if d is not None]

    def _plan(
        self, row: Row, side: Side, kline: Kline, late: tuple[str, ...], values: Values, denied: list[Denied]
    ) -> EntryOrder | None:
        """Plan and size the setup; append refusals to `denied` and numbers to `values`."""
        market_state, config, instrument = (
            self.market_state,
            self.market_state.config,
            self.market_state.instruments[self.alpha],
        )
        plan = setup.plan(
            row,
            side,
            signal_ms=kline.close_ms,
            sequence=kline.close_ms // BASE_MS,
            instrument=instrument,
            config=config.trade,
            refined=config.strategy.use_refined_edges,
        )
        if isinstance(plan, Denied):
            denied.append(plan)
            return None
        values |= {"entry": float(plan.entry), "stop": float(plan.stop), "tp1": float(plan.tp1)}
        values |= {"tp2": float(plan.tp2), "catastrophe": float(plan.catastrophe)}
        quote = market_state.quote(self.alpha)
        if quote is None:
            return None  # already denied as stale
        values |= {"bid": float(quote.bid), "ask": float(quote.ask)}
        beyond = vetoes.beyond_stop(side, quote, plan.stop)
        if beyond is not None:
            denied.append(beyond)
        hedge = self._hedge(kline, late)
        leverage = market_state.wanted_leverage(self.alpha, self.limits.leverage)
        sized = size(
            plan.entry,
            plan.stop,
            equity=self.account.equity,
            available=self.account.wallet,
            fraction=self.limits.fraction,
            share=self.limits.throttle,
            leverage=leverage,
            margin_use=config.risk.margin_use,
            hedge_ratio=hedge.ratio,
            lowest_price=min(plan.entry, maker_price(side, plan.entry, quote, instrument)),
            instrument=instrument,
        )
        if isinstance(sized, Denied):
            if sized not in denied:  # the limits refuse an empty wallet too
                denied.append(sized)
            return None
        # Liquidation depends on the price paid: the rest is taken at up to this one.
        paid = taker_limit(side, quote, config.entry.max_slippage, instrument)
        near = vetoes.liquidation(
            side,
            entry=max(plan.entry, paid) if side is Side.LONG else min(plan.entry, paid),
            qty=sized.qty,
            catastrophe=plan.catastrophe,
            risk_per_unit=plan.risk_per_unit,
            gap_r=config.risk.liquidation_gap_r,
            leverage=leverage,
            instrument=instrument,
        )
        if near is not None:
            denied.append(near)
        cost = self._cost(side, sized, quote, hedge)
        limit = config.strategy.max_cost_r
        if limit and cost > limit:
            denied.append(Denied("cost", f"expected cost {cost:.2f} R > {limit} R"))
        values |= {"qty": float(sized.qty), "uncut_qty": float(sized.uncut_qty), "cost_r": cost}
        values |= {"risk_quote": float(sized.risk_quote), "hedge_ratio": hedge.ratio, "net_beta": hedge.net_beta}
        if sized.cut:
            values["cut"] = sized.cut
        return EntryOrder(plan, sized, quote, hedge, cost, late)

    def _hedge(self, kline: Kline, late: tuple[str, ...]) -> beta.HedgePlan:
        if not self.legs:
            return beta.NO_HEDGE
        series = self.market_state.series
        return beta.plan(
            series[self.alpha].closes,
            {s: ({} if s in late else series[s].closes) for s in self.legs},
            last_open_ms=kline.open_ms,
            interval_ms=BASE_MS,
            config=self.market_state.config.hedge,
        )

    def _cost(self, side: Side, sized: Size, quote: Quote, hedge: beta.HedgePlan) -> float:
        market_state, config = self.market_state, self.market_state.config
        funding = market_state.funding.get(self.alpha)
        time_exit = market_state.now + round(config.trade.timeout_minutes * MINUTE_MS)
        measured = len(self.limits.slippages) >= config.risk.slippage_fills
        instruments = market_state.instruments
        return expected_cost(
            side,
            notional=sized.notional,
            risk_quote=sized.risk_quote,
            taker_fee=instruments[self.alpha].taker_fee,
            spread=float((quote.ask - quote.bid) * 2 / (quote.ask + quote.bid)),
            slippage=max(self.limits.mean_slippage, 0.0) if measured else config.backtest.slippage,
            funding_rate=float(funding.rate) if funding else 0.0,
            funding_due=funding is not None and market_state.now <= funding.next_funding_ms <= time_exit,
            hedge_notional=sized.notional * to_decimal(hedge.ratio),
            hedge_taker_fee=max((instruments[s].taker_fee for s in self.legs), default=Decimal(0)),
        ).total
