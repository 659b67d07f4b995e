"""Check that klines have taker volume if a setting needs it; without it no trade would follow, so check first.

It is missing where the column is absent, null or NaN, or 0 on bars that traded (an exchange without the data sends 0).
"""

from collections.abc import Iterable

import numpy as np

from bot.config import Config
from bot.core.errors import ConfigError
from bot.core.klines import Klines
from bot.core.words import counted

FEW = 0.01  # tolerated share of a series' bars without it: single bars really have no taker buys


def settings_that_read(config: Config, *, traded: bool) -> list[str]:
    """Return the settings that need taker volume, as written in a file; gates only count for the `traded` symbol."""
    gates = config.strategy.gates if traded else None
    found = ['pac.split = "taker"'] if config.pac.split == "taker" else []
    return found + [f"strategy.gates.{name}" for name in ("taker_side", "taker_confirm") if getattr(gates, name, False)]


def lacking(bars: Klines) -> int:
    """Count bars that traded but have no taker volume."""
    unknown = np.isnan(bars.taker_buy_volume) | (bars.taker_buy_volume == 0.0)
    return int((unknown & (bars.volume > 0.0) & (bars.filled == 0.0)).sum())


def check_taker(config: Config, series: Iterable[tuple[Klines, str]]) -> list[str]:
    """Reject settings that need taker volume on klines without it; return warnings where part of the bars lack it.

    Parameters
    ----------
    series
        Bars and their source, the traded symbol's first.

    Raises
    ------
    ConfigError
        No bar of a series has taker volume.
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
