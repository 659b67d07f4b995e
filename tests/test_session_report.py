"""The session report, checked by hand-worked lists of trades."""

import io
import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bot.core.records import Decision, EquityPoint, TradeFill, TradeRecord
from bot.core.types import Side
from bot.report.session import render
from bot.results.figures import max_drawdown, max_drawdown_r, wilson
from bot.results.session import session_report

D = Decimal
DAY = 86_400_000


def trade(
    r: float, *, fee: str = "1", reason: str = "tp2", closed_ms: int = 60_000, hedge_r: float = 0.0
) -> TradeRecord:
    """A trade that risked 10 USDT and came out at `r`."""
    fill = TradeFill(closed_ms, "BTCUSDT", "en", "BUY", D("0.012"), D("60000.1"), D(fee), True)
    return TradeRecord(
        trade_id=f"{closed_ms}", symbol="BTCUSDT", side=Side.LONG, signal_ms=closed_ms - 9, opened_ms=closed_ms - 8,
        closed_ms=closed_ms, exit_reason=reason, plan_entry=D(60000), plan_stop=D(59900), plan_qty=D("0.012"),
        uncut_qty=D("0.012"), qty=D("0.012"), entry_price=D("60000.1"), exit_price=D("60100.2"), stop=D(59900),
        tp1=D(60100), tp2=D(60150), risk_quote=D(10), pnl=D(str(r)) * 10, alpha_pnl=D(str(r)) * 10 + D(fee),
        hedge_pnl=D(0), fees=D(fee), funding=D("0.25"), r_multiple=r, alpha_r=r - hedge_r, hedge_r=hedge_r,
        expected_cost_r=0.1, net_beta=0.4, max_favourable_r=2.0, max_adverse_r=-0.5, naked_ms=int(abs(r) * 100), fills=(fill,),
    )  # fmt: skip


def unfilled() -> TradeRecord:
    return replace(trade(0.0), fills=(), qty=D(0), exit_reason="unfilled", fees=D(0), funding=D(0))


def decisions(n: int, signals: dict[int, str]) -> list[Decision]:
    dark = (False,) * 6
    return [
        Decision((i + 1) * 180_000, i * 180_000, dark, dark, int(i in signals), signals.get(i, "no_signal"), "")
        for i in range(n)
    ]


def equity(values: list[float], step_ms: int = DAY, day_r: float = 0.0) -> list[EquityPoint]:
    return [EquityPoint(i * step_ms, D(str(v)), D(str(v)), D(str(v)), day_r) for i, v in enumerate(values)]


def test_four_trades_by_hand():
    trades = [trade(2.0, hedge_r=0.5), trade(-1.0), unfilled(), trade(1.0), trade(-1.5)]

    summary = session_report(trades, meta={"initial_equity": 1000})["summary"]

    assert summary["trades"] == 4
    assert summary["setups_unfilled"] == 1
    assert summary["win_rate"] == 0.5
    assert summary["profit_factor"] == pytest.approx(30 / 25)
    assert summary["expectancy_r"] == pytest.approx(0.125)
    assert summary["total_r"] == pytest.approx(0.5)
    assert (summary["alpha_r"], summary["hedge_r"]) == (pytest.approx(0.0), pytest.approx(0.5))
    assert (summary["fees"], summary["funding"], summary["pnl"]) == (4.0, 1.0, 5.0)
    assert summary["avg_cost_r"] == pytest.approx(0.125)
    assert summary["max_drawdown_r"] == pytest.approx(1.5)
    assert summary["max_drawdown"] == pytest.approx(15 / 1020)
    assert summary["naked_ms_max"] == 200
    assert (summary["initial_equity"], summary["final_equity"]) == (1000.0, 1005.0)


def test_a_trade_closed_by_the_end_of_the_data_is_money_but_no_verdict():
    summary = session_report([trade(1.0), trade(-1.0), trade(-3.0, reason="end_of_data")])["summary"]

    assert summary["win_rate"] == 0.5
    assert summary["profit_factor"] == 1.0
    assert summary["trades"] == 3
    assert summary["trades_end_of_data"] == 1
    assert summary["total_r"] == -3.0
    assert summary["fees"] == 3.0


def test_nothing_traded_gives_nulls_and_no_verdict():
    report = session_report([])

    assert report["trades"] == []
    for name in ("win_rate", "profit_factor", "expectancy_r", "max_drawdown", "final_equity", "signals_per_day"):
        assert report["summary"][name] is None, name
    assert {claim["met"] for claim in report["summary"]["claims"].values()} == {None}
    assert "nothing to judge" in text(report)


def test_a_session_without_a_loser_has_no_profit_factor():
    assert session_report([trade(1.0)])["summary"]["profit_factor"] is None


def test_signals_vetoes_bars_and_days_come_from_the_decisions():
    bars = decisions(960, {3: "entered", 9: "spread", 20: "funding", 21: "funding"})

    summary = session_report([], decisions=bars)["summary"]

    assert (summary["bars"], summary["days"], summary["signals"]) == (960, 2.0, 4)
    assert summary["signals_per_day"] == 2.0
    assert summary["vetoes"] == {"funding": 2, "spread": 1}


def test_returns_are_not_extrapolated_from_less_than_their_time():
    line = equity([1000.0, 1010.0])

    short = session_report([], decisions=decisions(240, {}), equity=line)["summary"]
    day = session_report([], decisions=decisions(480, {}), equity=line)["summary"]
    month = session_report([], decisions=decisions(480 * 22, {}), equity=line)["summary"]

    assert (short["day_return"], short["month_return"]) == (None, None)
    assert (day["day_return"], day["month_return"]) == (pytest.approx(0.01), None)
    assert month["month_return"] == pytest.approx(0.01)


def test_claims_stand_beside_what_was_measured_and_few_trades_carry_no_verdict():
    few = session_report([trade(1.0)] * 10, decisions=decisions(480, {}))["summary"]["claims"]
    many = session_report([trade(1.0), trade(-1.0)] * 20, decisions=decisions(480, {}))["summary"]["claims"]

    assert (few["win_rate"]["measured"], few["win_rate"]["met"]) == (1.0, None)
    assert (many["win_rate"]["measured"], many["win_rate"]["met"]) == (0.5, False)
    assert many["signals_per_day"] == {"claimed": "about 7", "low": 5.0, "high": 9.0, "measured": 0.0, "met": False}
    assert many["slippage"]["measured"] is None


def test_a_trade_row_holds_its_fills_with_prices_and_fees_as_plain_json():
    report = session_report([trade(1.0)])

    again = json.loads(json.dumps(report, allow_nan=False))

    assert again["trades"][0]["side"] == "LONG"
    assert again["trades"][0]["cost_r"] == pytest.approx(0.125)
    assert again["trades"][0]["fills"] == [
        {"at_ms": 60_000, "symbol": "BTCUSDT", "role": "en", "side": "BUY",
         "qty": 0.012, "price": 60000.1, "fee": 1.0, "maker": True}
    ]  # fmt: skip


def test_the_days_worst_standing_is_sampled_or_summed_from_trades():
    trades = [trade(-1.0, closed_ms=1), trade(-1.5, closed_ms=2), trade(-2.0, closed_ms=DAY + 1)]

    def worst(trades, equity=()):
        return session_report(trades, equity=equity)["summary"]["day_drawdown_r"]

    assert worst(trades) == 2.5
    assert worst(trades, equity([1000.0], day_r=-3.25)) == 3.25
    assert worst([], equity([1000.0], day_r=1.0)) == 0.0
    assert worst([]) is None


@given(st.lists(st.floats(-5, 5), max_size=30))
def test_drawdown_of_r_is_the_largest_fall_between_any_two_moments(multiples):
    sums = [0.0]
    for multiple in multiples:
        sums.append(sums[-1] + multiple)

    expected = max(sums[i] - sums[j] for i in range(len(sums)) for j in range(i, len(sums)))

    assert max_drawdown_r(multiples) == pytest.approx(expected)


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=30), st.floats(0.1, 10))
def test_drawdown_does_not_depend_on_the_currency(values, factor):
    assert max_drawdown(values) == pytest.approx(max_drawdown([value * factor for value in values]))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_measured_share(wins_n):
    wins, n = wins_n

    low, high = wilson(wins, n)

    assert 0 <= low <= wins / n + 1e-12
    assert wins / n - 1e-12 <= high <= 1


def test_sharpe_of_three_days_by_hand():
    def ratio(values):
        return session_report([], equity=equity(values))["summary"]["sharpe_daily"]

    # returns of 0, 0.1 and 0: mean 0.1 / 3, variance of a sample 0.01 / 3
    assert ratio([100.0, 110.0, 110.0]) == pytest.approx(0.1 / 3 / (0.01 / 3) ** 0.5 * 365**0.5)
    assert ratio([100.0]) is None


def text(report: dict) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(render(report))
    return console.file.getvalue()


def test_the_printed_report_says_claims_measurements_and_how_little_ten_trades_prove():
    report = session_report(
        [trade(1.0), trade(-1.0)] * 5, decisions=decisions(480, {4: "spread"}), equity=equity([1000, 990])
    )

    page = text(report)

    assert "62 to 68 %" in page
    assert "50.0 %" in page
    assert "no verdict" in page
    assert "spread 1" in page
    assert "between 24% and 76%" in page
    assert "Fewer than 30 trades" in page
