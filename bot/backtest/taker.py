"""Settings that read taker volume, and klines that lack it: said before anything is computed, for no trade would follow.

Klines lack it where the column is absent, null or NaN, or 0 on bars that traded (an exchange that does not know it sends 0).
"""

from collections.abc import Iterable

import numpy as np

from bot.config import Config
from bot.core.errors import ConfigError
from bot.core.klines import Klines
from bot.core.words import counted

FEW = 0.01  # of a series' bars that may be without: single bars really have no buyer that takes


def settings_that_read(config: Config, *, traded: bool) -> list[str]:
    """Return the settings of a symbol that need taker volume, as one writes them; gates count for the `traded` one."""
    gates = config.strategy.gates if traded else None
    found = ['pac.split = "taker"'] if config.pac.split == "taker" else []
    return found + [f"strategy.gates.{name}" for name in ("taker_side", "taker_confirm") if getattr(gates, name, False)]


def lacking(bars: Klines) -> int:
    """Return how many bars that traded have no taker volume."""
    unknown = np.isnan(bars.taker_buy_volume) | (bars.taker_buy_volume == 0.0)
    return int((unknown & (bars.volume > 0.0) & (bars.filled == 0.0)).sum())


def check_taker(config: Config, series: Iterable[tuple[Klines, str]]) -> list[str]:
    """Refuse settings that need taker volume on klines without it; return a warning where a part lacks it.

    Parameters
    ----------
    series
        Bars and where they come from, the traded symbol's first.

    Raises
    ------
    ConfigError
        No bar of a series has it.
    """
    warnings = []
    for place, (bars, source) in enumerate(series):
        wanted = settings_that_read(config, traded=place == 0)
        if not wanted:
            continue
        without, traded = lacking(bars), int(((bars.volume > 0.0) & (bars.filled == 0.0)).sum())
        what = " and ".join(wanted)
        needs = "needs" if len(wanted) == 1 else "need"
        if traded and without == traded:
            raise ConfigError(
                f"{what} {needs} taker volume, and {source} has none for {bars.symbol} {bars.interval}, so no trade would be "
                "taken: use klines with taker_buy_volume (`python -m bot download` gets them) or leave "
                f"{'it' if len(wanted) == 1 else 'them'} out"
            )
        if without > FEW * traded:
            warnings.append(
                f"{what} {needs} taker volume, and {source} lacks it on {counted(without, 'bar')} of {traded} of "
                f"{bars.symbol} {bars.interval}: blocks of those bars never count"
            )
    return warnings
