"""The strategy's claims next to the measurements: one table for terminal, page and document.

The strategy's authors claim a win rate of 62 to 68 %, a profit factor of 1.6, seven signals a day, and other figures
(strategy 10). Nothing here assumes any of them. A claim gets a verdict only if the run is long enough: ten trades
neither confirm nor refute it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bot.results.numbers import DASH, show

FEW_TRADES: Final = 30  # with fewer, a win rate's 95 % interval is wider than 30 points: no verdict on trades
CLAIMED_EXPECTANCY_R: Final = 0.276
VERDICTS: Final = {None: "no verdict", True: "kept", False: "not kept"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim.

    Attributes
    ----------
    figure
        Key of the figure in a summary.
    label, claimed
        The figure's name and the claim, as displayed.
    form
        Format of the measured value.
    low, high
        Smallest and largest value that meets the claim; None means unbounded.
    of_trades
        The claim is about trades: a verdict needs `FEW_TRADES` of them; otherwise it needs one day.
    wanting
        Displayed in place of a missing measurement.
    """

    figure: str
    label: str
    claimed: str
    form: str
    low: float | None
    high: float | None
    of_trades: bool
    wanting: str = DASH


CLAIMS: Final = (
    Claim("win_rate", "win rate", "62 to 68 %", ".1%", 0.62, None, True),
    Claim("profit_factor", "profit factor", "at least 1.6", ".2f", 1.6, None, True),
    Claim("signals_per_day", "signals a day", "about 7", ".2f", 5.0, 9.0, False),
    Claim("expectancy_r", "a trade, net R", "0.276 R", ".3f", CLAIMED_EXPECTANCY_R, None, True),
    Claim("day_drawdown_r", "worst day, day R", "at most 2.5 R", ".2f", None, 2.5, False),
    Claim("max_drawdown", "deepest fall", "below 8 %", ".1%", None, 0.08, False),
    Claim("slippage", "slippage", "below 0.06 %", "z.3%", None, 0.0006, True, wanting="assumed"),
    Claim("day_return", "return a day", "1.45 %", ".2%", 0.0145, None, True),
    Claim("month_return", "return in 22 days", "31.88 %", ".1%", 0.3188, None, True, wanting="range too short"),
    Claim("decision_ms", "price to order, ms", "within 150 to 250 ms", ".0f", None, 250.0, False, wanting="live only"),
)
BY_FIGURE: Final = {claim.figure: claim for claim in CLAIMS}


def claims(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each claim with its measurement, plain JSON values; `met` is None where there is no verdict.

    >>> measured = {"trades": 40, "trades_end_of_data": 0, "days": 9.0, "win_rate": 0.5}
    >>> claims(measured)["win_rate"]["met"], claims(measured)["slippage"]["met"]
    (False, None)
    """
    found: dict[str, dict[str, Any]] = {}
    few = summary["trades"] - summary["trades_end_of_data"] < FEW_TRADES
    for claim in CLAIMS:
        value, low, high = summary.get(claim.figure), claim.low, claim.high
        short = few if claim.of_trades else not summary["days"] >= 1
        inside = value is not None and (low is None or value >= low) and (high is None or value <= high)
        met = None if value is None or short else inside
        found[claim.figure] = {"claimed": claim.claimed, "low": low, "high": high, "measured": value, "met": met}
    return found


def claim_row(figure: str, found: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return label, claim, measured value and verdict of an entry of `claims` as text.

    >>> claim_row("win_rate", {"claimed": "62 to 68 %", "measured": 0.5, "met": False})
    ('win rate', '62 to 68 %', '50.0 %', 'not kept')
    """
    claim, value = BY_FIGURE[figure], found["measured"]
    measured = claim.wanting if value is None else show(value, claim.form)
    return claim.label, claim.claimed, measured, VERDICTS[found["met"]]
