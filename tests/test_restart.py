"""A bot that comes back to a position without its stop sees it first, and acts on it before it prepares anything.

What it sends is a stop, or the way out when the position has been bare for longer than the naked limit by then.
"""

import asyncio
import shutil

import pytest

from bot.core.types import Side
from tests.engine_harness import BTC
from tests.kill import books
from tests.kill.matrix import Session, warm_up
from tests.kill.scenarios import Scenario
from tests.kill.venue import KEY, SECRET
from tests.sim_tools import close_client, endpoints

pytestmark = [pytest.mark.wire, pytest.mark.slow]
SENT = "request is sent: "
PROTECTS = (SENT + "POST /fapi/v1/algoOrder sl-0", SENT + "POST /fapi/v1/order xx-0")
REQUESTS = (
    24  # the clock, one snapshot of three symbols, what became of two stops: 15; the start goes on beside the last
)
WITHIN_MS = 1_000  # of exchange time: four rounds of requests, each answered after some 100 ms


def held(state):
    return {p["symbol"] for p in state["positions"] if float(p["positionAmt"])}


async def strip(port):
    """Cancel every stop of BTC behind the bot's back."""
    client = endpoints(port)[0](KEY, SECRET)
    try:
        await client.futures_cancel_all_algo_open_orders(symbol=BTC)
    finally:
        await close_client(client)


def restart(side, *, journal):
    """Return the points of a restart into a naked position, the exchange's state a moment later, and the bot's log."""
    warm_up()
    session = Session(Scenario("scale", side))
    try:
        session.start("first")
        state = session.run(1_000)
        while BTC not in held(state) or books.unprotected(state, exact=True):
            state = session.run(500)
        session.bury(100)
        asyncio.run(strip(session.port))
        session.bury(6_000)  # so that its absence is not a matter of reads that lag
        if not journal:
            shutil.rmtree(session.folder / "data")
        session.start("again")
        state = session.run(8_000)
        return session.points("again"), state, session.log("again")
    finally:
        session.close()
        shutil.rmtree(session.folder, ignore_errors=True)


@pytest.fixture(scope="module", params=Side, ids=lambda side: side.name)
def restarted(request):
    """A restart with the journal in place."""
    return restart(request.param, journal=True)


def test_what_protects_goes_out_after_one_look_at_the_account(restarted):
    points, _, log = restarted
    requests = [point for point in points if point[2].startswith(SENT)]
    at = next((n for n, point in enumerate(requests) if point[2] in PROTECTS), None)

    assert at is not None, f"{requests} {log}"
    assert at <= REQUESTS, requests[:at]
    assert requests[at][1] - requests[0][1] <= WITHIN_MS


def test_leverage_and_margin_are_prepared_all_the_same(restarted):
    labels = [label for _, _, label in restarted[0]]

    for path in ("marginType", "leverage", "positionSide/dual"):
        assert [label for label in labels if label.startswith(f"{SENT}POST /fapi/v1/{path}")], path
    assert [label for label in labels if label.startswith(SENT + "GET /fapi/v1/exchangeInfo")]


def test_everything_is_whole_after_it(restarted):
    _, state, log = restarted

    assert books.unprotected(state, exact=True) == [], log


@pytest.mark.parametrize("side", Side, ids=lambda side: side.name)
def test_a_position_that_no_journal_knows_is_guarded_before_anything_is_prepared(side):
    points, state, log = restart(side, journal=False)
    labels = [label for _, _, label in points]

    guard = labels.index(SENT + "POST /fapi/v1/algoOrder gd-0")
    prepared = next((n for n, label in enumerate(labels) if "POST /fapi/v1/marginType" in label), len(labels))
    stops = [a for a in state["algo_orders"] if a["algoStatus"] == "NEW" and a["symbol"] == BTC]

    assert guard < prepared < len(labels), log
    assert [a["closePosition"] for a in stops] == [True]
