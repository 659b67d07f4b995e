"""At the end of a replay an open trade is valued at the last close and told apart."""

import pytest

from bot.core.records import TradeRecord
from bot.core.types import Side
from tests.engine_harness import started


@pytest.mark.parametrize("side", [Side.LONG, Side.SHORT])
def test_an_open_trade_is_valued_at_the_last_closes_without_a_fee(side):
    harness = started(side).enter()
    before = harness.of(TradeRecord)
    fees = sum(fill.fee for fill in harness.engine.portfolio.trade.fills)

    harness.command("end_of_data")

    record = harness.of(TradeRecord)[-1]
    last = harness.engine.portfolio.account.last
    valued = [fill for fill in record.fills if fill.role == "ed"]
    assert before == []
    assert record.exit_reason == "end_of_data"
    assert record.fees == fees
    assert {fill.symbol for fill in valued} == set(last)
    assert all(fill.price == last[fill.symbol] for fill in valued)
    assert record.pnl == record.alpha_pnl + record.hedge_pnl - record.fees - record.funding


def test_without_a_trade_there_is_nothing_to_record():
    harness = started(Side.LONG)

    harness.command("end_of_data")

    assert harness.of(TradeRecord) == []
