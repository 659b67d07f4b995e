"""Price Action Concepts against real alerts: timed events, and how often each alert fired in two months.

The alerts, their klines and what is not certain about them are described beside the files. They come from another venue's
chart, a few ticks off, so that one event more or less on its bar says little; a reading is accepted for the sum of them and
for the rates of both symbols. Chance is what the same reading, or the best of all readings compared, scores on events
shifted by 10 to 100 bars.

Rates: a true count has its Poisson interval (95 %), ours the range over windows of the same length in earlier years.
"""

import csv
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pyarrow.parquet as parquet
import pytest

from bot.config import Pac
from tests.test_pac import BEFORE, JIT, column, run

pytestmark = [pytest.mark.reference, pytest.mark.skipif(not JIT, reason="two hundred thousand bars")]

SHIFTS = [*range(-100, -9, 3), *range(10, 101, 3)]
ALERTS = {"trend_line_length": 11}  # the defaults, and trend lines


@dataclass(frozen=True)
class Stretch:
    """Klines of one symbol and interval, and the alerts on them as (bar, name)."""

    market: np.ndarray
    alerts: tuple[tuple[int, str], ...]

    def named(self, *parts):
        """Bars of the alerts whose names hold one of the parts, with +1 for bullish and -1 for bearish ones."""
        return [(at, 1 if "Bull" in name else -1) for at, name in self.alerts if any(part in name for part in parts)]


@pytest.fixture(scope="module")
def truth(shared):
    folder = shared / "truth"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@cache
def stretch(folder, symbol, minutes):
    with (folder / f"{symbol}USDT-5m.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("open", "high", "low", "close", "volume")
    bars = np.array([[float(row[name]) for name in names] for row in rows])
    opened = np.array([int(row["open_time"]) for row in rows])
    opened = np.where(opened > 10**14, opened // 1000, opened)  # one file is in microseconds
    step, parts = minutes * 60_000, minutes // 5
    first = int(np.flatnonzero(opened % step == 0)[0])
    count = (len(bars) - first) // parts
    groups = bars[first : first + count * parts].reshape(count, parts, 5)
    opened = opened[first : first + count * parts : parts]
    market = np.column_stack(
        [groups[:, 0, 0], groups[:, :, 1].max(1), groups[:, :, 2].min(1), groups[:, -1, 3], groups[:, :, 4].sum(1)]
    )
    market = np.column_stack([market, np.full(count, math.nan), np.zeros(count)])
    alerts = []
    with (folder / "events.csv").open() as file:
        for of, interval, stamp, name, *_ in csv.reader(file):
            if of == symbol and interval == f"{minutes}m":
                arrived = int(datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp() * 1000)
                at = int(np.searchsorted(opened, arrived // step * step - step))  # an alert is of the bar that closed
                if 60 <= at < count and opened[at] == arrived // step * step - step:
                    alerts.append((at, name))
    return Stretch(market, tuple(alerts))


def hits(flags, wanted, shift=0):
    """How many of the wanted (bar, side) are flagged; shifted ones that leave the klines come in at the other end."""
    size = len(flags)
    return sum(flags[20 + (at + shift - 20) % (size - 20)] == side for at, side in wanted)


# ---- timed events ---------------------------------------------------------------------------------------------------

SERIES = (("SOL", 5), ("SOL", 15), ("BTC", 5), ("BTC", 15))


@cache
def directions(truth, source, symbol, minutes):
    out, _ = run(stretch(truth, symbol, minutes).market, Pac(**BEFORE | {"break_source": source}))
    return column(out, "pac_dir")


def breaks_hit(truth, source, shift=0):
    """Breaks of internal structure found on their bar, of all four series."""
    return sum(hits(directions(truth, source, *key), stretch(truth, *key).named("I-"), shift) for key in SERIES)


def test_breaks_by_the_mean_price_fall_on_the_bars_of_the_alerts(truth):
    """18 breaks; by the close 5 of the 9 missed ones are found a bar too early."""
    assert sum(len(stretch(truth, *key).named("I-")) for key in SERIES) == 18

    assert breaks_hit(truth, "close") == 9
    assert breaks_hit(truth, "ohlc4") >= 15
    assert max(breaks_hit(truth, source, shift) for source in ("close", "ohlc4") for shift in SHIFTS) <= 4


def test_swing_breaks_by_the_mean_price_do_so_too(truth):
    """Four breaks of swing structure, which no reading was chosen by."""
    found = {}
    for source in ("close", "ohlc4"):
        found[source] = 0
        for symbol, minutes in SERIES:
            part = stretch(truth, symbol, minutes)
            out, _ = run(part.market, Pac(structure_length=49, break_source=source))
            found[source] += hits(column(out, "pac_dir"), part.named("S-"))

    assert found == {"close": 1, "ohlc4": 3}


def test_blocks_of_real_alerts_are_created_entered_and_ended_on_their_bars(truth):
    """SOL alone: BTC's klines begin too late to hold the blocks that were then broken."""
    part = stretch(truth, "SOL", 5)
    out, _ = run(part.market, Pac(**ALERTS))
    new, within = column(out, "pac_ob_new"), column(out, "pac_demand_within") > 0
    plain, _ = run(part.market, Pac(**BEFORE))

    assert hits(new, part.named("OB Created")) == len(part.named("OB Created")) == 4
    assert hits(column(plain, "pac_ob_new"), part.named("OB Created")) == 3
    inside = part.named("Within Bullish OB")
    assert hits(within, inside) == len(inside) == 7
    assert max(hits(within, inside, shift) for shift in SHIFTS) < 7
    assert hits(column(out, "pac_demand_mitigated") > 0, part.named("OB Mitigated")) == 1
    assert hits(column(out, "pac_demand_entered") > 0, part.named("OB Entered")) == 1  # the other one a bar early


def test_real_gaps_have_a_large_candle_in_their_middle(truth):
    """Three timed gaps: all of them from 1.1 on, at 1.2 one is a tick short. A third of all gaps are as large."""
    part = stretch(truth, "SOL", 5)
    wanted = part.named("New Imbalance")
    every, chosen, strict = (
        column(out, "pac_fvg_bull") - column(out, "pac_fvg_bear")
        for out, _ in (run(part.market, Pac(fvg_measure="body", fvg_threshold=size)) for size in (0.0, 1.1, 1.2))
    )

    assert [hits(flags, wanted) for flags in (every, chosen, strict)] == [3, 3, 2]
    assert (chosen != 0).sum() < (every != 0).sum() / 3


# ---- rates ----------------------------------------------------------------------------------------------------------

BARS = {"SOL": 17_530, "BTC": 19_000}
PAIRS = {
    "created": ("pac_ob_new", "pac_ob_new"),
    "entered": ("pac_demand_entered", "pac_supply_entered"),
    "within": ("pac_demand_within", "pac_supply_within"),
    "broken": ("pac_demand_broken", "pac_supply_broken"),
    "ended": ("pac_demand_mitigated", "pac_supply_mitigated"),
    "grab": ("pac_grab_bull", "pac_grab_bear"),
    "equal": ("pac_eqh", "pac_eql"),
    "gap": ("pac_fvg_bull", "pac_fvg_bear"),
    "gap closed": ("pac_fvg_bull_mitigated", "pac_fvg_bear_mitigated"),
    "line": ("pac_line_bull", "pac_line_bear"),
}
WORDS = {
    "created": ("OB Created",),
    "entered": ("OB Entered",),
    "within": ("Within",),
    "broken": ("Breaker",),
    "ended": ("OB Mitigated",),
    "grab": ("Liquidity Grab",),
    "equal": ("Equal",),
    "gap": ("New Imbalance",),
    "gap closed": ("Imbalance Mitigated",),
    "line": ("trendline",),
    "choch": ("I-CHOCH",),
    "choch+": ("I-CHOCH+",),
    "bos": ("I-BOS",),
}


def true_count(truth, symbol, name):
    """Count of the longest record of both sides, 5m, over `BARS` bars."""
    total = 0
    with (truth / "rates.csv").open() as file:
        for row in csv.reader(file):
            if row[:2] == [symbol, "5m"] and int(row[6]) == BARS[symbol] and "S-" not in row[2]:
                plus = row[2].endswith("+")
                if any(word in row[2] for word in WORDS[name]) and plus == (name == "choch+"):
                    total += int(row[3])
    return total


@cache
def ours(folder, symbol, settings):
    market = real_bars(folder, symbol)
    out, _ = run(market, Pac(**dict(settings)))
    return out


@cache
def real_bars(folder, symbol):
    table = parquet.read_table(folder / f"{symbol}USDT-5m.parquet", columns=["open", "high", "low", "close", "volume"])
    market = np.column_stack([column.to_numpy() for column in table.columns])
    return np.column_stack([market, np.full(len(market), math.nan), np.zeros(len(market))])


def windows(shared, symbol, name, settings):
    """Our counts of bars with the event, of both sides, in windows as long as the true record."""
    out = ours(shared / "klines/um-long", symbol, tuple(settings.items()))
    if name in PAIRS:
        first, second = PAIRS[name]
        flags = (column(out, first) > 0).astype(int) + (column(out, second) != 0)
        flags = flags if first != second else (column(out, first) != 0).astype(int)
    else:
        flags = (column(out, "pac_event") == ("bos", "choch", "choch+").index(name) + 1).astype(int)
    size = BARS[symbol]
    return np.array([flags[at : at + size].sum() for at in range(0, len(flags) - size + 1, size)])


def agree(count, found):
    """Whether the true count's interval and the range of ours overlap."""
    margin = 1.96 * math.sqrt(count)
    return found.min() <= count + margin and found.max() >= count - margin


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        *((symbol, name) for symbol in ("SOL", "BTC") for name in PAIRS if (symbol, name) != ("SOL", "within")),
        *(("SOL", name) for name in ("bos", "choch", "choch+")),
    ],
)
def test_events_are_as_frequent_as_the_real_alerts(shared, truth, symbol, name):
    assert agree(true_count(truth, symbol, name), windows(shared, symbol, name, ALERTS))


@pytest.mark.parametrize("symbol", ["SOL", "BTC"])
def test_gaps_on_average_fall_into_the_interval_of_the_real_count(shared, truth, symbol):
    count = true_count(truth, symbol, "gap")

    assert windows(shared, symbol, "gap", ALERTS).mean() == pytest.approx(count, abs=1.96 * math.sqrt(count))
    assert windows(shared, symbol, "gap", BEFORE).mean() > 4 * count


@pytest.mark.parametrize("symbol", ["SOL", "BTC"])
@pytest.mark.parametrize(("part", "whole", "margin"), [("ended", "created", 0.07), ("gap closed", "gap", 0.025)])
def test_as_many_blocks_and_gaps_end_as_in_the_real_counts(shared, truth, symbol, part, whole, margin):
    share = true_count(truth, symbol, part) / true_count(truth, symbol, whole)

    found = windows(shared, symbol, part, ALERTS) / windows(shared, symbol, whole, ALERTS)
    before = windows(shared, symbol, part, BEFORE) / windows(shared, symbol, whole, BEFORE)

    assert found.mean() == pytest.approx(share, abs=margin)
    assert abs(before.mean() - share) > abs(found.mean() - share)


@pytest.mark.parametrize(("symbol", "least", "most"), [("SOL", 0.92, 0.95), ("BTC", 0.97, 1.0)])
def test_bars_within_a_block_by_either_price_of_a_break(shared, truth, symbol, least, most):
    """What is left open: by the close SOL is right and BTC 3 % too high, by the mean SOL 7 % too low and BTC right."""
    count = true_count(truth, symbol, "within")

    by_mean = windows(shared, symbol, "within", ALERTS).mean() / count
    by_close = windows(shared, symbol, "within", ALERTS | {"break_source": "close"}).mean() / count

    assert least < by_mean < most
    assert 1.0 < by_close < 1.05
    assert windows(shared, symbol, "within", BEFORE).mean() / count < 0.8
