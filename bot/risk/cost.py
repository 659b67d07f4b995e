"""Expected cost of a trade in R, before entry: fees, spread, slippage, funding and the hedge legs (strategy 4).

On 3m bars R is about 0.11 % of the price, so a taker round trip costs most of one R: every plan needs the figure. The estimate is
conservative: taker both ways; a maker entry and resting targets are cheaper.
"""

from dataclasses import asdict, dataclass
from decimal import Decimal

from bot.core.types import Side


@dataclass(frozen=True, slots=True)
class Cost:
    """Expected cost by part, each in R."""

    fees: float
    spread: float
    slippage: float
    funding: float
    hedge: float

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return sum(asdict(self).values())


def expected_cost(
    side: Side,
    *,
    notional: Decimal,
    risk_quote: Decimal,
    taker_fee: Decimal,
    spread: float,
    slippage: float,
    funding_rate: float,
    funding_due: bool,
    hedge_notional: Decimal,
    hedge_taker_fee: Decimal,
) -> Cost:
    """Return the expected cost of a round trip in R.

    Parameters
    ----------
    notional, risk_quote
        Of the BTC trade, in quote.
    taker_fee
        Fraction of the notional.
    spread
        Full spread as a fraction of the price; half of it is paid on each side.
    slippage
        Fraction of the price per taker fill.
    funding_rate
        Rate of the next payment, fraction; longs pay when it is positive.
    funding_due
        Whether that payment is due before the time exit.
    hedge_notional, hedge_taker_fee
        Total notional of the legs in quote, and their largest taker fee; the legs are taken both ways.

    >>> D = Decimal
    >>> expected_cost(Side.LONG, notional=D(10000), risk_quote=D(11), taker_fee=D("0.0004"), spread=0.0, slippage=0.0,
    ...               funding_rate=0.0, funding_due=False, hedge_notional=D(0), hedge_taker_fee=D(0)).fees
    0.7272727272727273
    """
    in_r = float(notional) / float(risk_quote)
    legs_in_r = float(hedge_notional) / float(risk_quote)
    return Cost(
        fees=2 * float(taker_fee) * in_r,
        spread=spread * in_r,
        slippage=2 * slippage * in_r,
        funding=side.sign * funding_rate * (in_r - legs_in_r) if funding_due else 0.0,
        hedge=(2 * float(hedge_taker_fee) + spread + 2 * slippage) * legs_in_r,
    )
