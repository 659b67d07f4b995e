"""The chart's data and its file: blocks live and die as the kernel counts them, live equals history, the page is complete."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from bot.app.chart import tape_of, write_chart
from bot.backtest.signals import resets_at
from bot.config import parse
from bot.core.errors import ConfigError, DataMissing
from bot.core.events import KlineClosed
from bot.core.klines import aggregate, fill_gaps
from bot.core.types import Kline
from bot.market.synthetic import synthetic_market, write_market
from bot.report import charts
from bot.report.chart_data import ChartTape, assembled
from bot.report.findings import COVERED, MITIGATED, STATES
from bot.report.live import Live
from bot.strategy.features import INDEX, Features, batch


@pytest.fixture(scope="module")
def bars():
    """Ten days of a synthetic BTC, without a gap."""
    return aggregate(synthetic_market(10, 3).klines["BTCUSDT"], 180_000)


def klines_of(bars, first=0, last=None):
    """The bars as the exchange sends them, one by one."""
    for i in range(first, len(bars) if last is None else last):
        values = (bars.open[i], bars.high[i], bars.low[i], bars.close[i], bars.volume[i], bars.taker_buy_volume[i])
        yield Kline(bars.symbol, bars.interval_ms, int(bars.open_ms[i]), *map(float, values))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("pac.block_life=plain", "pac.hide_overlap=both"),
        ("pac.block_life=plain", "pac.mitigation=wick", "pac.hide_overlap=same"),
        ("pac.mitigation=wick", "pac.hide_overlap=same"),
        ("pac.mitigation=average", "pac.average_source=wick", "pac.hide_overlap=off"),
        ("pac.mitigation=average", "pac.average_source=close", "pac.zone_cap_atr200=1.0"),
    ],
)
def test_blocks_end_on_the_very_bars_on_which_the_kernel_counts_an_end(bars, overrides):
    config = parse("", overrides=overrides)
    rows = batch(bars, config)
    tape = ChartTape(config, bars.symbol)

    tape.extend(bars, rows)

    ended = Counter((box.end, box.state) for box in tape.found.boxes if box.end >= 0)
    for state, column in ((MITIGATED, "pac_ob_mitigated_n"), (COVERED, "pac_ob_hidden_n")):
        counted = rows[:, INDEX[column]]
        found = np.array([ended[i, state] for i in range(len(rows))])
        assert np.array_equal(found, counted)
    assert len(tape.found.boxes) == int((rows[:, INDEX["pac_ob_new"]] != 0).sum()) > 100


def test_a_block_stands_on_the_candle_that_it_is_made_of(bars):
    tape = tape_of(parse(""), bars)

    for box in tape.found.boxes:
        assert box.start < box.born
        assert (bars.low[box.start], bars.high[box.start]) == (box.bottom, box.top)


def test_every_break_begins_at_the_pivot_that_it_breaks(bars):
    tape = tape_of(parse(""), bars)
    parts = [part for part in tape.found.segments if part.layer in ("pac", "int", "sw")]

    for part in parts:
        pivots = bars.high if part.side > 0 else bars.low
        assert pivots[part.start] == part.price
        four = (bars.high, bars.low, bars.open, bars.close)
        price = np.mean([values[part.end] for values in four]) if part.layer == "pac" else bars.close[part.end]
        assert part.side * (price - part.price) > 0
    assert {part.label for part in parts} == {"BOS", "CHoCH", "CHoCH+"}


def test_equal_levels_join_two_pivots_at_nearly_one_price(bars):
    tape = tape_of(parse(""), bars)
    parts = [part for part in tape.found.segments if part.layer == "equal"]

    for part in parts:
        values = bars.high if part.label == "EQH" else bars.low
        level = max if part.label == "EQH" else min
        assert level(values[part.start], values[part.end]) == part.price
    assert len(parts) > 10


def test_bars_taken_one_by_one_are_drawn_as_history_is(bars):
    config = parse("")
    count = 1_400
    live, features = Live(config), Features(config)

    for bar in klines_of(bars, 0, count):
        event = KlineClosed(bar.close_ms, bar)
        row = features.step(event)
        live.take(event, row.values)
    history = tape_of(config, bars.part(0, count))

    assert assembled(live.chart("BTCUSDT", last=count, after_ms=None)) == history.payload()


def test_what_a_page_lacks_added_to_what_it_has_is_the_whole(bars):
    tape = tape_of(parse(""), bars)
    early = tape_of(parse(""), bars.part(0, len(bars) - 30)).payload(last=500)
    rest = tape.payload(after_ms=early["time"][-1] * 1000)
    whole = tape.payload(last=530)

    boxes = {box[0]: box for box in early["boxes"]} | {box[0]: box for box in rest["boxes"]}

    assert rest["first"] == early["first"] + len(early["time"])
    assert early["close"] + rest["close"] == whole["close"]
    assert early["lines"]["trail"] + rest["lines"]["trail"] == whole["lines"]["trail"]
    assert all(boxes[box[0]] == box for box in whole["boxes"])
    assert all(part in early["segments"] + rest["segments"] for part in whole["segments"])


def test_a_gap_is_filled_flat_and_a_long_one_ends_what_was_drawn(bars):
    config = parse("")
    keep = np.ones(len(bars), bool)
    keep[2000:2004] = False
    keep[3000:3040] = False
    columns = {
        name: getattr(bars, name)[keep] for name in bars.__dataclass_fields__ if name not in ("symbol", "interval_ms")
    }
    holed = type(bars)(symbol=bars.symbol, interval_ms=bars.interval_ms, **columns)
    filled, resets = fill_gaps(holed, config.data.max_gap_bars)
    live, features = Live(config), Features(config)
    live.take(KlineClosed(0, next(klines_of(bars, 0, 1)), early=True), np.zeros(len(INDEX)))

    for bar in klines_of(holed):
        event = KlineClosed(bar.close_ms, bar)
        live.take(event, features.step(event).values)
    rows = batch(filled, config, resets=resets_at(len(filled), resets))
    history = ChartTape(config, bars.symbol)
    history.extend(filled, rows)
    ours, theirs = live.tapes["BTCUSDT"].payload(), history.payload()

    assert len(ours["time"]) == len(bars) - 40
    assert ours["boxes"] == theirs["boxes"]
    assert ours["segments"] == theirs["segments"]
    assert ours["flags"] == theirs["flags"] | {name: ours["flags"][name] for name in ("long", "short")}


def test_the_funnel_counts_bars_alone_and_in_sequence(bars):
    config = parse("")
    rows = batch(bars, config)
    tape = ChartTape(config, bars.symbol)
    tape.extend(bars, rows)

    told = tape.funnel(1000)

    held = {name: rows[1000:, INDEX[f"long_{name}"]] == 1 for name in ("htf", "ob", "hw_cross")}
    assert told["long"]["alone"][:3] == [int(flags.sum()) for flags in held.values()]
    assert told["long"]["sequence"][2] == int((held["htf"] & held["ob"] & held["hw_cross"]).sum())
    recent = tape.recent(20)["long_htf"]
    assert recent["strip"] == "".join(str(int(on)) for on in held["htf"][-20:])


def test_the_file_holds_all_three_symbols_and_asks_for_nothing_from_elsewhere(tmp_path):
    write_market(tmp_path / "klines", 15, 11)
    out = tmp_path / "chart.html"

    summary = write_chart(parse("", overrides=("data.history_bars=600",)), tmp_path / "klines", out)

    text = out.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="chart-data">(.*?)</script>', text, re.DOTALL)[1])
    assert [chart["symbol"] for chart in data["charts"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert [len(chart["time"]) for chart in data["charts"]] == [600, 600, 600]
    assert summary["bytes"] == out.stat().st_size
    assert all(0 <= box[7] < len(STATES) for box in data["charts"][0]["boxes"])
    ours = text.replace(charts.library(), "")
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=|@import|url\(|fetch\(|EventSource", ours)
    assert "default-src 'none'" in text
    assert "Apache License 2.0" in text
    assert {path.name for path in tmp_path.iterdir()} == {"klines", "chart.html"}


def test_a_chart_that_cannot_be_is_one_sentence_and_no_file(tmp_path):
    write_market(tmp_path / "klines", 15, 11)
    out = tmp_path / "chart.html"

    with pytest.raises(DataMissing, match="no bar of BTCUSDT lies between --from and --to"):
        write_chart(parse(""), tmp_path / "klines", out, from_ms=4_000_000_000_000)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_chart(
            parse("", overrides=("data.history_bars=50",)), tmp_path / "klines", tmp_path / "none" / "chart.html"
        )

    assert not out.exists()


def test_data_inside_the_page_cannot_end_its_script():
    text = charts.inline_json({"note": "</script><script>alert(1)</script>\u2028"})

    assert "<" not in text
    assert json.loads(text)["note"].startswith("</script>")


def test_the_modules_of_a_page_have_names_of_their_own():
    for entry in (charts.ENTRY, "app.js"):
        names = re.findall(
            r"^(?:export )?(?:async )?(?:const|let|class|function) (\w+)", charts.bundle(entry), re.MULTILINE
        )
        twice = [name for name, count in Counter(names).items() if count > 1]
        assert entry == "app.js" or twice == []
        assert not re.search(r"^(?:import|export) ", charts.bundle(entry), re.MULTILINE)


def test_the_library_keeps_its_licence_at_its_head():
    head = charts.library()[:400]

    assert "Licensed under Apache License 2.0" in head
    assert "TradingView" in head
