"""What is not written down about the real exchange, as switches: its answers where documents are silent or clients disagree.

The defaults are the likeliest readings (venue notes 2.1, 2.6, 2.7 and the open points of section 7). A client that is safe must
be safe under each of them, so tests turn them one by one; what the test network shows becomes the default.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

from bot.core.errors import ConfigError

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Quirks:
    """One reading of the exchange.

    Parameters
    ----------
    immediate_trigger : int
        Code for a stop that the price has already passed: -2021 or -4142.
    close_stop_while_flat : bool
        Whether a `closePosition` stop is taken without a position, to wait for one, or refused (-4509).
    one_reduce_only_stop : bool
        Whether a second sized reduce-only stop on one side is refused (-4130) like a second closing one.
    countdown_cancels_algos : bool
        Whether `countdownCancelAll` reaches conditional orders too.
    post_only_expires : bool
        Whether a post-only order that would take is accepted and EXPIRES, as it used to, or refused (-5022).
    trade_lite : bool
        Whether TRADE_LITE comes before ORDER_TRADE_UPDATE.
    max_leverage : int
        The most that this account may use (20 on new accounts); 0 = what the symbol allows.
    socket_life_ms : int
        Exchange time after which a socket is closed (1001); 0 = never.
    order_memory_ms, fill_memory_ms : int
        How long ended orders without a fill, and everything else, can be asked for.
    """

    immediate_trigger: int = -2021
    close_stop_while_flat: bool = False
    one_reduce_only_stop: bool = False
    countdown_cancels_algos: bool = False
    post_only_expires: bool = False
    trade_lite: bool = True
    max_leverage: int = 0
    socket_life_ms: int = 0
    order_memory_ms: int = 3 * DAY_MS
    fill_memory_ms: int = 90 * DAY_MS

    def changed(self, data: object) -> "Quirks":
        """Return these with what a JSON object changes."""
        types = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        if not isinstance(data, dict):
            raise ConfigError("quirks must be a JSON object of names and values")
        for name, value in data.items():
            if name not in types:
                raise ConfigError(f"unknown quirk {name!r}: known are {', '.join(sorted(types))}")
            if type(value) is not types[name]:
                raise ConfigError(f"quirk {name} must be of type {types[name].__name__}, not {value!r}")
        return replace(self, **data)
