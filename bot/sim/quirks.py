"""Undocumented behaviour of the real exchange, as switches: where documents are silent or clients disagree.

The defaults are the likeliest readings (venue notes 2.1, 2.6, 2.7 and the open points of section 7). A safe client must
be safe under each of them, so tests switch them one by one; what the test network shows becomes the default.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from bot.core.errors import ConfigError
from bot.core.times import DAY_MS

ACCOUNTS: Final = ("standard", "multi", "credits", "portfolio", "hedge")


@dataclass(frozen=True, slots=True)
class Quirks:
    """One reading of the exchange.

    Parameters
    ----------
    immediate_trigger : int
        Code for a stop that the price has already passed: -2021 or -4142.
    close_stop_while_flat : bool
        Whether a `closePosition` stop without a position is accepted and waits for one, or is rejected (-4509).
    one_reduce_only_stop : bool
        Whether a second sized reduce-only stop on one side is rejected (-4130) like a second closing one.
    countdown_cancels_algos : bool
        Whether `countdownCancelAll` also cancels conditional orders.
    post_only_expires : bool
        Whether a post-only order that would take is accepted and EXPIRES, as it used to, or is rejected (-5022).
    trade_lite : bool
        Whether TRADE_LITE is sent before ORDER_TRADE_UPDATE.
    reduce_only_counts_resting : bool
        Whether a reduce-only order is rejected (-4118) when it and the resting reduce-only orders of its side exceed
        the position. Binance's FAQ exempts an order of the position's full size; a report of August 2026 from a live
        (portfolio margin) account has one rejected next to a resting target (xLydianSoftware/Qubx#386). It holds for a
        triggered stop as well, which is then REJECTED; an order with `closePosition` closes regardless of resting
        orders.
    refused_trigger_expires : bool
        Whether a triggered stop rejected in this way becomes an order that EXPIRES at once (er 4), the conditional one
        FINISHED without a fill, instead of REJECTED.
    account : str
        Account type: `standard` (one-way, single-asset), `multi` (multi-assets mode is on), `credits` (it is on and
        cannot be switched off, the money is BNFCR: accounts of the EEA), `portfolio` (portfolio margin: futures calls
        are rejected) or `hedge` (hedge mode is on).
    max_leverage : int
        Maximum leverage of this account (20 on new accounts); 0 = the symbol's limit.
    socket_life_ms : int
        Exchange time after which a socket is closed (1001); 0 = never.
    order_memory_ms, fill_memory_ms : int
        Retention, in ms, of ended orders without a fill, and of everything else.
    """

    immediate_trigger: int = -2021
    close_stop_while_flat: bool = False
    one_reduce_only_stop: bool = False
    countdown_cancels_algos: bool = False
    post_only_expires: bool = False
    trade_lite: bool = True
    reduce_only_counts_resting: bool = False
    refused_trigger_expires: bool = False
    account: str = "standard"
    max_leverage: int = 0
    socket_life_ms: int = 0
    order_memory_ms: int = 3 * DAY_MS
    fill_memory_ms: int = 90 * DAY_MS

    def changed(self, data: object) -> "Quirks":
        """Return these quirks with the changes of a JSON object.

        Raises
        ------
        ConfigError
            The data is not an object, or has an unknown name or a value of the wrong type.
        """
        types = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        if not isinstance(data, dict):
            raise ConfigError("quirks must be a JSON object of names and values")
        for name, value in data.items():
            if name not in types:
                raise ConfigError(f"unknown quirk {name!r}: known are {', '.join(sorted(types))}")
            if type(value) is not types[name]:
                raise ConfigError(f"quirk {name} must be of type {types[name].__name__}, not {value!r}")
            if name == "account" and value not in ACCOUNTS:
                raise ConfigError(f"quirk account must be one of {', '.join(ACCOUNTS)}, not {value!r}")
        return replace(self, **data)

    def report(self) -> dict[str, object]:
        """Return the quirks as a JSON object."""
        return asdict(self)
