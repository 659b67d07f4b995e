"""Decide from its settings whether the bot can trade on an account.

Only a USDⓈ-M futures account in one-way and single-asset mode with isolated margin is supported: only there is the USDT wallet
all the money at risk, and a position's liquidation price depends on that position alone. `run` switches hedge mode, multi-assets
mode and cross margin off where the exchange allows it. It does not in credits mode (EEA accounts since 2024: margin in BNFCR,
multi-assets mode fixed, so isolated margin is rejected with -4168 although nothing is open) or with portfolio margin.

`doctor` reads and judges; `run` tries to switch first and judges with the rejections it got.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

POSITION_MODE, ASSET_MODE = "position mode", "asset mode"  # switched in addition to each symbol's margin type
CREDITS_ASSET: Final = "BNFCR"
BUSY_MODE: Final = frozenset({-4067, -4068})  # open orders, a position
ORDERS_OPEN, POSITION_OPEN, MULTI_ASSETS_ON = -4047, -4048, -4168
PLAIN: Final = "the bot needs a USDⓈ-M futures account in single-asset mode, with USDT as margin"


@dataclass(frozen=True, slots=True)
class ModeRefusal:
    """Why the exchange did not switch a setting."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class ModeReading:
    """The settings read from an account.

    Parameters
    ----------
    crossed
        Symbols whose margin is not isolated.
    assets
        Assets with a balance in the futures wallet; only read in multi-assets mode.
    portfolio_key
        Whether the key may trade with portfolio margin, a permission that only such an account can grant.
    refusals
        Keyed by what was to be switched: `POSITION_MODE`, `ASSET_MODE` or a symbol; None if nothing was tried.
    """

    hedge: bool
    multi_assets: bool
    crossed: tuple[str, ...] = ()
    assets: frozenset[str] = frozenset()
    portfolio_key: bool = False
    refusals: Mapping[str, ModeRefusal] | None = None


@dataclass(frozen=True, slots=True)
class ModeFinding:
    """One unsuitable setting of an account; `fatal` if `run` cannot change it."""

    what: str
    text: str
    way_out: str
    fatal: bool = field(default=True)

    def __str__(self) -> str:
        """Return the finding as one sentence."""
        return f"{self.text}: {self.way_out}"


def judge(reading: ModeReading) -> list[ModeFinding]:
    """Return what keeps the bot from trading on this account, the most fundamental first; empty if it is suitable.

    >>> judge(ModeReading(hedge=False, multi_assets=False))
    []
    >>> [finding.text for finding in judge(ModeReading(hedge=False, multi_assets=True, assets=frozenset({"BNFCR"})))]
    ['the account is in credits trading mode (multi-assets mode with margin in BNFCR), which the bot does not support']
    """
    refusals = reading.refusals or {}
    if reading.portfolio_key or any(of_portfolio(refusal.message) for refusal in refusals.values()):
        return [ModeFinding(ASSET_MODE, "this is a portfolio margin account, which the bot does not support", PLAIN)]
    asset_refusal = refusals.get(ASSET_MODE)
    region = asset_refusal is not None and "region" in asset_refusal.message.lower()
    if reading.multi_assets and (CREDITS_ASSET in reading.assets or region):
        kind = "the account is in credits trading mode (multi-assets mode with margin in BNFCR)"
        return [ModeFinding(ASSET_MODE, f"{kind}, which the bot does not support", PLAIN)]
    found = []
    if reading.multi_assets:
        found.append(_multi_assets(reading, asset_refusal))
    if reading.hedge:
        found.append(_hedge(reading, refusals.get(POSITION_MODE)))
    if reading.refusals is not None and not reading.multi_assets:  # that mode has no isolated margin
        found += [_crossed(symbol, refusals.get(symbol)) for symbol in reading.crossed]
    return found


def of_portfolio(message: str) -> bool:
    """Return whether the exchange rejects a request because the account uses portfolio margin."""
    return "portfolio margin" in message.lower()


def _multi_assets(reading: ModeReading, refusal: ModeRefusal | None) -> ModeFinding:
    text = "the account is in multi-assets mode"
    if reading.refusals is None:
        way_out = "`run` switches it at its start; where the exchange does not allow that, the account is not supported"
        return ModeFinding(ASSET_MODE, text, way_out, fatal=False)
    return ModeFinding(
        ASSET_MODE,
        f"{text} and could not be switched{_why(refusal)}",
        "choose single-asset mode on the exchange's futures page; an account that does not offer it is not supported",
    )


def _hedge(reading: ModeReading, refusal: ModeRefusal | None) -> ModeFinding:
    text = "the account is in hedge mode"
    if reading.refusals is None:
        way_out = "`run` switches it at its start; that needs the account flat, without orders"
        return ModeFinding(POSITION_MODE, text, way_out, fatal=False)
    busy = refusal is not None and refusal.code in BUSY_MODE
    way_out = "close its positions and orders first" if busy else "choose one-way mode on the exchange's futures page"
    return ModeFinding(POSITION_MODE, f"{text} and could not be switched{_why(refusal)}", way_out)


def _crossed(symbol: str, refusal: ModeRefusal | None) -> ModeFinding:
    text = f"{symbol} is on cross margin and could not be switched{_why(refusal)}"
    match refusal.code if refusal is not None else 0:
        case code if code == POSITION_OPEN:
            way_out = "close its position first"
        case code if code == ORDERS_OPEN:
            way_out = "cancel its orders first"
        case code if code == MULTI_ASSETS_ON:
            way_out = "choose single-asset mode on the exchange's futures page"
        case _:
            way_out = "choose isolated margin on the exchange's futures page"
    return ModeFinding(symbol, text, way_out)


def _why(refusal: ModeRefusal | None) -> str:
    if refusal is None:
        return ""
    code = f", {refusal.code}" if refusal.code else ""
    return f" ({refusal.message.rstrip('.')}{code})"
