"""No repaint: whatever the next bars bring, no value of a closed bar ever changes.

Every one of 5,000 real bars is taken as the last one: what was computed up to there is compared, column by column and bit by
bit, with what the whole series says of the same bars. A chart that repaints fails here on the first pivot that is confirmed
later than it is drawn.
"""

import numpy as np
import pytest

from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.klines import fill_gaps
from bot.market import store
from bot.strategy import kernel as k
from bot.strategy.features import batch

BARS = 5_000
CONFIG = Config()
pytestmark = pytest.mark.reference


def first_rewritten(full, part, names):
    """Name the first closed bar and column whose value the full run tells differently, or None."""
    told, now = part.view(np.int64), full[: len(part)].view(np.int64)
    if np.array_equal(told, now):
        return None
    bar, column = np.argwhere(told != now)[0]
    return int(bar), names[column]


@pytest.mark.parametrize(
    ("interval", "suite_only"), [("3m", False), pytest.param("15m", True, marks=pytest.mark.nightly)]
)
def test_no_value_of_a_closed_bar_changes_at_any_of_5000_prefix_ends(shared, interval, suite_only):
    bars, gaps = fill_gaps(store.load(shared / "klines" / "um", "BTCUSDT", interval).part(0, BARS))
    resets = resets_at(len(bars), gaps)
    names = k.SUITE_COLUMNS if suite_only else k.COLUMNS
    full = batch(bars, CONFIG, resets=resets, suite_only=suite_only)

    for length in range(1, len(bars) + 1):
        part = batch(bars.part(0, length), CONFIG, resets=resets[:length], suite_only=suite_only)

        assert first_rewritten(full, part, names) is None, f"prefix of {length} bars"

    assert len(bars) >= min(BARS, 4_900)
    if not suite_only:
        signals = full[:, k.COLUMNS.index("long_signal")] + full[:, k.COLUMNS.index("short_signal")]
        assert signals.any()  # the bars hold what the test is about


def test_a_single_changed_bit_is_noticed_and_named():
    full = np.arange(12.0).reshape(4, 3)
    part = full[:3].copy()
    part[1, 2] = np.nextafter(part[1, 2], 9)

    assert first_rewritten(full, full[:3].copy(), "abc") is None
    assert first_rewritten(full, part, "abc") == (1, "c")
