"""The chart file in a real browser: boxes at their pixels, smooth with thousands of bars, keys, phones, no complaint."""

import time

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from bot.app.chart import tape_of
from bot.config import parse
from bot.core.klines import aggregate
from bot.market.synthetic import synthetic_market
from bot.report.backtest_why import funnel
from bot.report.charts import page, write_page
from bot.report.page import Page
from tests.browser import chromium, complaints, need_browser, screen

pytestmark = pytest.mark.slow
BARS, BOXES = 5_000, 250

# The colours of one column of pixels of the price pane, from the top: everything the person sees, all canvases together.
COLUMN = """
const done = arguments[arguments.length - 1];
const view = window.botChart;
const canvas = view.chart.takeScreenshot(false, false);
const ratio = canvas.width / view.box.clientWidth;
const pen = canvas.getContext("2d");
const x = Math.round(arguments[0] * ratio);
const height = Math.round(view.chart.panes()[0].getHeight() * ratio);
const data = pen.getImageData(x, 0, 1, height).data;
const rows = [];
for (let y = 0; y < height; y++) rows.push([data[4 * y], data[4 * y + 1], data[4 * y + 2]]);
done({ rows, ratio });
"""
PICTURE = "return window.botChart.chart.takeScreenshot(false, false).toDataURL()"
# Pan over the whole data with so many bars in view, one step a frame, and count frames for some seconds.
PAN = """
const [width, seconds] = arguments;
const done = arguments[arguments.length - 1];
const scale = window.botChart.chart.timeScale();
const total = window.botChart.data.time.length;
let from = 0, frames = 0, began = 0;
function step(now) {
  if (!began) began = now;
  else frames++;
  if (now - began > 1000 * seconds) return done(frames / ((now - began) / 1000));
  from = (from + 11) % Math.max(total - width, 1);
  scale.setVisibleLogicalRange({ from, to: from + width });
  requestAnimationFrame(step);
}
requestAnimationFrame(step);
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(need_browser(), tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def chart_file(tmp_path_factory):
    """A file with three symbols of 5,000 bars and more than 250 blocks each."""
    config, market = parse("", overrides=("pac.show=10", "pac.order_block_length=4")), synthetic_market(14, 3)
    payloads = []
    for minutes in market.klines.values():
        payload = tape_of(config, aggregate(minutes, 180_000)).payload(last=BARS)
        payloads.append(payload)
    path = tmp_path_factory.mktemp("chart") / "chart.html"
    write_page(path, page(payloads, title="BTC, ETH, SOL", note="synthetic"))
    return path, {payload["symbol"]: payload for payload in payloads}


@pytest.fixture
def open_chart(driver, chart_file):
    """The page on a desk's screen, with nothing kept from before."""
    path, payloads = chart_file
    screen(driver, 1400, 900)
    driver.get(path.as_uri())
    driver.execute_script("localStorage.clear()")
    driver.refresh()
    driver.get_log("browser")
    return driver, payloads


def test_every_symbol_is_drawn_and_nothing_complains(open_chart):
    driver, payloads = open_chart

    for key, symbol in enumerate(payloads, 1):
        driver.find_element(By.TAG_NAME, "body").send_keys(str(key))
        shown = driver.execute_script(
            "return [botChart.data.symbol, botChart.data.time.length, botChart.data.boxes.length]"
        )
        assert shown[:2] == [symbol, BARS]
        assert shown[2] == len(payloads[symbol]["boxes"]) >= BOXES
        assert driver.find_element(By.CSS_SELECTOR, "[aria-selected=true]").get_attribute("data-symbol") == symbol
        driver.execute_script("botChart.centre(100)")
        time.sleep(0.2)

    assert complaints(driver) == []


def test_what_is_off_until_wanted_is_drawn_when_wanted(open_chart):
    driver, payloads = open_chart
    symbol = driver.execute_script("botChart.latest(); return botChart.data.symbol")
    assert any(payloads[symbol]["flags"]["gap"])
    off = driver.execute_script(PICTURE)

    for name in ("tracer", "catcher", "neo", "gaps"):
        assert driver.execute_script("return botChart.layers[arguments[0]]", name) is False
        driver.execute_script("botChart.show(arguments[0], true)", name)
        time.sleep(0.15)
        assert driver.execute_script(PICTURE) != off, name
        driver.execute_script("botChart.show(arguments[0], false)", name)
        time.sleep(0.15)

    assert driver.execute_script(PICTURE) == off
    assert complaints(driver) == []


def test_the_forming_bar_stands_after_the_last_closed_one_and_becomes_it(open_chart):
    driver, _ = open_chart

    count, shown, stale, closed = driver.execute_script(
        """
        const v = botChart, d = v.data, next = d.time.at(-1) * 1000 + d.interval_ms, c = d.close.at(-1);
        v.setForming([next, c, c + 9, c - 9, c + 5]);
        const shown = v.candles.data().at(-1);
        v.setForming([next - d.interval_ms, 1, 1, 1, 1]);
        const stale = v.candles.data().at(-1);
        d.time.push(next / 1000);
        for (const name of ["open", "high", "low", "close"]) d[name].push(c + 7);
        v.candles.update(v.candle(d.time.length - 1));
        return [d.time.length, shown, stale, v.candles.data().at(-1)];
        """
    )

    assert count == BARS + 1
    assert "color" in shown
    assert stale == shown
    assert closed["time"] == shown["time"]
    assert "color" not in closed


def test_boxes_stand_at_the_pixels_of_their_prices(open_chart):
    driver, _ = open_chart
    # Only the blocks, so that the pixels of a column are theirs and the candles'; a grid line may lie on an edge.
    driver.execute_script(
        "for (const name of Object.keys(botChart.layers)) botChart.show(name, name === 'blocks');"
        "botChart.chart.applyOptions({grid: {horzLines: {visible: false}}})"
    )
    boxes = driver.execute_script("return botChart.data.boxes.filter((box) => box.state === 0)")
    checked = 0

    for box in boxes:
        if box["start"] < 0:
            continue
        driver.execute_script(
            "botChart.chart.timeScale().setVisibleLogicalRange({from: arguments[0] - 5, to: arguments[0] + 60});"
            "botChart.candles.priceScale().applyOptions({autoScale: true})",
            box["start"],
        )
        time.sleep(0.15)
        # Independent of the drawing code: the price scale's own answer, and the axis in pixels of the bar of the block.
        told = driver.execute_script(
            "const [box] = arguments, v = botChart, s = v.chart.timeScale();"
            "const at = (s.logicalToCoordinate(box.start + 1) + s.logicalToCoordinate(box.start + 2)) / 2;"  # between bars
            "return {x: at, top: v.candles.priceToCoordinate(box.top), bottom: v.candles.priceToCoordinate(box.bottom),"
            " height: v.chart.panes()[0].getHeight(), start: s.logicalToCoordinate(box.start),"
            " high: v.candles.priceToCoordinate(v.data.high[box.start]),"
            " low: v.candles.priceToCoordinate(v.data.low[box.start])}",
            box,
        )
        if not (5 < told["top"] < told["bottom"] < told["height"] - 12):
            continue
        assert (told["high"], told["low"]) == (told["top"], told["bottom"]), "the block is its candle's whole range"
        column = driver.execute_async_script(COLUMN, told["x"])
        edges = strong_edges(column["rows"], box["side"])
        for price in ("top", "bottom"):
            wanted = told[price] * column["ratio"]
            nearest = min(edges, key=lambda y: abs(y - wanted), default=-1000)
            assert abs(nearest - wanted) <= 1.01, (box, price, wanted, edges)
        checked += 1

    assert checked >= 3


def strong_edges(rows, side):
    """Return where a column of pixels has the strong colour of a block's edge: green for demand, red for supply."""
    want = (8, 153, 129) if side > 0 else (242, 54, 69)
    return [y for y, colour in enumerate(rows) if sum(abs(a - b) for a, b in zip(colour, want, strict=True)) < 60]


@pytest.mark.parametrize("width", [300, 1_000])
def test_five_thousand_bars_with_three_hundred_blocks_pan_smoothly(open_chart, record_property, width):
    driver, _ = open_chart
    bars, boxes = driver.execute_script("return [botChart.data.time.length, botChart.data.boxes.length]")

    frames, work = max(pan(driver, width) for _ in range(3))

    record_property(f"frames_a_second_{width}_bars", frames)
    record_property(f"page_ms_a_frame_{width}_bars", work)
    print(f"\n{bars} bars, {boxes} blocks, {width} bars in view: {frames:.0f} frames/s, {work:.1f} ms of work a frame")
    assert bars == BARS
    assert boxes >= BOXES
    # A machine that is busy with something else gives the page less time than it needs; its own work must then have fitted.
    assert frames > 30 or work < 1000 / 30


def pan(driver, width):
    """Return frames a second, and the processor time in ms that the page's main thread took for each."""
    driver.execute_cdp_cmd("Performance.disable", {})
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def taken():
        told = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(entry["value"] for entry in told if entry["name"] == "TaskDuration")

    before = taken()
    frames = driver.execute_async_script(PAN, width, 1.2)
    return frames, (taken() - before) * 1000 / (frames * 1.2)


def test_keys_and_ticks_do_what_they_say_and_are_kept(open_chart):
    driver, _ = open_chart
    body = driver.find_element(By.TAG_NAME, "body")

    def left() -> float:
        time.sleep(0.1)
        return driver.execute_script("return botChart.chart.timeScale().getVisibleLogicalRange().from")

    at = left()
    body.send_keys(Keys.ARROW_LEFT)
    assert left() == pytest.approx(at - 10, abs=0.5)
    body.send_keys(Keys.END)
    assert left() == pytest.approx(at, abs=0.5)
    body.send_keys("+")
    assert left() > at
    body.send_keys("l")
    tick = driver.find_element(By.CSS_SELECTOR, "[data-layer=int]")
    assert tick.is_displayed()
    tick.click()
    body.send_keys("c")
    driver.refresh()

    assert driver.execute_script("return [botChart.layers.int, document.documentElement.dataset.colours]") == [
        True,
        "safe",
    ]
    assert complaints(driver) == []


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (360, "dark")])
def test_the_chart_fits_a_phone(open_chart, width, theme):
    driver, _ = open_chart
    screen(driver, width, 800, theme=theme, scale=2.0)
    driver.refresh()
    time.sleep(0.3)

    sizes = driver.execute_script(
        "const page = document.documentElement;"
        "return [page.scrollWidth, innerWidth, botChart.box.clientHeight, page.dataset.theme]"
    )

    assert sizes[0] <= sizes[1]
    assert sizes[2] > 350
    assert sizes[3] == theme
    assert complaints(driver) == []


@pytest.mark.parametrize("width", [1280, 400])
def test_no_column_of_the_funnel_is_cut(driver, tmp_path, width):
    step = {"alone_share": 0.483, "alone_per_day": 232.1, "in_sequence_per_day": 232.22, "without_per_day": 1.23}
    steps = [{"name": name, "in_sequence": 10_450, **step} for name in ("OB_DEMAND_HIT", "gate discount")]
    side = {"bars": 21_600, "signals": 1, "signals_per_day": 0.02, "steps": steps}
    report = Page("Back-test")
    funnel(report, {"days": 45.0, "sides": {"long": side, "short": side}, "decisions": {"entered": 1}})
    path = tmp_path / "report.html"
    path.write_text(report.html(), encoding="utf-8")
    screen(driver, width, 900, theme="light")
    driver.get(path.as_uri())

    boxes = driver.execute_script(
        "return [...document.querySelectorAll('.scroll')].map((box) => [box.scrollWidth, box.clientWidth])"
    )

    assert len(boxes) == 3
    assert all(inner <= outer for inner, outer in boxes)
