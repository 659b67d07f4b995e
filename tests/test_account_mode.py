"""Which accounts the bot trades on: what cannot be is one true sentence, from `doctor` and from `run` alike."""

from contextlib import AsyncExitStack

import pytest

from bot.app import stream_checks
from bot.app.connection import addresses, connected
from bot.app.doctor import DoctorFailed, examine, must_pass
from bot.core.errors import BotError
from bot.execution.account_mode import ASSET_MODE, POSITION_MODE, ModeReading, ModeRefusal, judge
from tests.places import SYMBOLS, place, set_keys
from tests.rewriting import rewriting

wire = pytest.mark.wire


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    monkeypatch.setattr(stream_checks, "FRAME_WAIT_S", 1.5)
    set_keys(monkeypatch)


def refusal(code: int, message: str):
    return 400, {"code": code, "msg": message}


def credits_pre(method, path):
    """An account of the EEA: multi-assets mode is fixed."""
    if (method, path) == ("POST", "/fapi/v1/multiAssetsMargin"):
        return refusal(-4172, "Not allowed to change the asset mode in your region.")
    if (method, path) == ("POST", "/fapi/v1/marginType"):
        return refusal(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")
    return None


def multi_pre(method, path):
    if (method, path) == ("POST", "/fapi/v1/multiAssetsMargin"):
        return refusal(-4170, "Unable to adjust Multi-Assets Mode with open orders.")
    return credits_pre(method, path)


def multi_post(method, path, status, payload):
    if status != 200:
        return None
    if path == "/fapi/v1/accountConfig":
        return status, payload | {"multiAssetsMargin": True}
    if path == "/fapi/v1/symbolConfig":
        return status, [line | {"marginType": "CROSSED"} for line in payload]
    return None


def credits_post(method, path, status, payload):
    """No USDT, margin in BNFCR."""
    if status == 200 and path.endswith("/balance"):
        zero = dict.fromkeys(("balance", "crossWalletBalance", "availableBalance", "maxWithdrawAmount"), "0.00000000")
        usdt = next(line for line in payload if line["asset"] == "USDT")
        return status, [usdt | zero, usdt | {"asset": "BNFCR"}]
    return multi_post(method, path, status, payload)


def hedge_pre(method, path):
    if (method, path) == ("POST", "/fapi/v1/positionSide/dual"):
        return refusal(-4068, "Position side cannot be changed if there exists position.")
    return None


def hedge_post(method, path, status, payload):
    return (status, payload | {"dualSidePosition": True}) if path == "/fapi/v1/accountConfig" else None


def portfolio_pre(method, path):
    if method == "POST" and path in ("/fapi/v1/multiAssetsMargin", "/fapi/v1/marginType"):
        return refusal(-4250, "This action is not available for Portfolio Margin accounts.")
    return None


def portfolio_post(method, path, status, payload):
    if path.endswith("/account/apiRestrictions"):
        return 200, payload | {"enablePortfolioMarginTrading": True}
    return None


CREDITS = "credits trading mode"
KINDS = {
    "credits": (credits_pre, credits_post, CREDITS, CREDITS, "fail"),
    "multi-assets": (
        multi_pre,
        multi_post,
        "is in multi-assets mode",
        "multi-assets mode and could not be switched (Unable to adjust Multi-Assets Mode with open orders, -4170)",
        "warn",
    ),
    "hedge": (
        hedge_pre,
        hedge_post,
        "is in hedge mode",
        "hedge mode and could not be switched (Position side cannot be changed if there exists position, -4068): "
        "close its positions and orders first",
        "warn",
    ),
    "portfolio": (portfolio_pre, portfolio_post, "portfolio margin account", "portfolio margin account", "fail"),
}


@wire
@pytest.mark.parametrize("kind", KINDS)
async def test_doctor_and_run_recognise_the_account_in_one_true_sentence(kind):
    pre, post, seen, told, status = KINDS[kind]
    async with place() as venue, rewriting(venue, pre=pre, post=post) as proxy:
        report = await examine(proxy.config(), "testnet", quiet=True, wait_for_bar=False)
        async with connected("testnet", addresses(proxy.config(), "testnet")) as line:
            await line.gateway.synchronise()
            with pytest.raises(BotError) as refused:
                await line.gateway.prepare(SYMBOLS, 5)

    finding = next(check for check in report.checks if check.name == "position mode")
    assert (finding.status, seen in finding.text) == (status, True), finding
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    if kind != "hedge":  # nothing is open: closing would not help
        assert "close" not in str(refused.value) + finding.text + finding.hint
    if status == "fail":
        assert str(refused.value) == f"{finding.text}: {finding.hint}"
        with pytest.raises(DoctorFailed, match="position mode"):
            must_pass(report)


@wire
async def test_modes_that_the_exchange_switches_are_warned_of_and_switched():
    async with place() as venue, AsyncExitStack() as stack:
        venue.exchange.venue.settings.dual = True
        venue.exchange.venue.settings.multi_assets = True
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)
        line = await stack.enter_async_context(connected("testnet", addresses(venue.config(), "testnet")))
        await line.gateway.synchronise()
        prepared = await line.gateway.prepare(SYMBOLS, 5)
        account = await line.gateway.account_config()

    finding = next(check for check in report.checks if check.name == "position mode")
    assert finding.status == "warn"
    assert "multi-assets mode" in finding.text
    assert "hedge mode" in finding.text
    assert prepared.warnings == ()
    assert (account.is_hedged, account.is_multi_assets) == (False, False)


@wire
async def test_an_empty_wallet_is_a_warning_of_doctor_with_its_sentence():
    async with place(wallet=0.0) as venue:
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)

    finding = next(check for check in report.checks if check.name == "instruments")
    assert finding.status == "warn"
    assert finding.text.startswith("no USDT in the futures wallet: entries rest until there is some")
    assert "transfer USDT" in finding.hint


@pytest.mark.parametrize(
    ("code", "message", "way_out"),
    [
        (-4048, "Margin type cannot be changed if there exists position.", "close its position first"),
        (-4047, "Margin type cannot be changed if there exists open orders.", "cancel its orders first"),
        (-4168, "Unable to adjust to isolated-margin mode.", "choose single-asset mode"),
        (-4000, "Some other reason.", "choose isolated margin"),
    ],
)
def test_the_way_out_of_cross_margin_is_that_of_the_refusal(code, message, way_out):
    reading = ModeReading(False, False, ("BTCUSDT",), refusals={"BTCUSDT": ModeRefusal(code, message)})

    (finding,) = judge(reading)

    assert finding.fatal
    assert way_out in finding.way_out
    assert str(code) in finding.text
    assert ("close its position" in finding.way_out) is (code == -4048)


def test_credits_mode_without_any_balance_is_known_by_the_refusal():
    region = ModeRefusal(-4172, "Not allowed to change the asset mode in your region.")

    (finding,) = judge(ModeReading(False, True, ("BTCUSDT",), refusals={ASSET_MODE: region}))

    assert CREDITS in finding.text


def test_an_account_with_two_faults_tells_the_fundamental_one_first():
    refusals = {POSITION_MODE: ModeRefusal(-4067, "open orders"), ASSET_MODE: ModeRefusal(-4170, "open orders")}

    found = judge(ModeReading(True, True, ("BTCUSDT",), refusals=refusals))

    assert [finding.what for finding in found] == [ASSET_MODE, POSITION_MODE]
