"""The comparison's page in a real browser: both charts, one cursor, no complaint, nothing fetched."""

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains

from bot.parity.compare import compare
from bot.parity.writing import write_comparison
from bot.report.compare_page import _panes
from tests.browser import chromium, complaints, need_browser, screen
from tests.parity_exports import CONFIG, OSCILLATOR, OVERLAYS, chart, market

BARS = market().part(0, 1500)
CREDITED = "https://www.tradingview.com/"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page of an export with another HyperWave length, and the browser that shows it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot")))
        made = chart(BARS, OSCILLATOR | OVERLAYS, changes={"oscillator.hyperwave_length": 14})
        path = made.write(tmp_path_factory.mktemp("export") / "<b>BTC & co.csv")
        found = compare(CONFIG, path)
    page = write_comparison(tmp_path_factory.mktemp("out"), found)
    with chromium(need_browser(), tmp_path_factory.mktemp("profile")) as driver:
        screen(driver, 1400, 1000)
        driver.get(page.as_uri())
        driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"
        )
        yield driver, found, page


def test_both_charts_stand_under_each_other_without_a_complaint(opened):
    driver, found, page = opened

    places = driver.execute_script(
        """
        return ['theirs', 'ours'].map((id) => {
          const box = document.getElementById(id).getBoundingClientRect();
          return [box.left, box.top, box.width];
        });
        """
    )
    marks = driver.execute_script("return [botCompare.theirs.markCount, botCompare.ours.markCount];")

    assert complaints(driver) == []
    assert places[0][0] == places[1][0]
    assert places[1][1] > places[0][1] + 200
    assert places[0][2] > 1000
    rows = [r["export_bars"] for r in found.report["columns"] if r["export_bars"]["kind"] == "event"]
    assert sum(marks) > sum(r["ours"] + r["theirs"] for r in rows) > 100
    assert "http" not in page.read_text().split("<script>")[0].replace("http-equiv", "").replace(CREDITED, "")


def test_the_verdict_is_words_and_not_markup(opened):
    driver, found, _ = opened

    shown = [item.text for item in driver.find_elements("css selector", "#verdict li")]

    assert shown == found.report["verdict"]
    assert any("oscillator.hyperwave_length = 14" in sentence for sentence in shown)
    assert driver.find_element("css selector", "h1").text == "<b>BTC & co.csv: does it match?"


def test_lines_that_would_flatten_each_other_stand_in_panes_of_their_own():
    rng = np.random.default_rng(1)

    def line(size, family="formula", kind="plot"):
        return {"theirs": size * rng.normal(1.0, 0.1, 50), "family": family, "kind": kind}

    series = [line(9000.0), line(60.0), line(40.0), line(20_000.0), line(1.0, kind="event"), line(70.0, "money flow")]
    panes = _panes(series, np.full(50, 21_000.0))

    assert panes == [1, 2, 2, 0, 0, 3]


@pytest.mark.parametrize(("moved", "other", "across"), [("theirs", "ours", -200), ("ours", "theirs", 150)])
def test_place_and_cursor_are_linked_both_ways(opened, moved, other, across):
    driver, _, _ = opened

    ranges = driver.execute_async_script(
        """
        const [moved, other, done] = arguments;
        botCompare[moved].chart.timeScale().setVisibleLogicalRange({ from: 300, to: 400 });
        requestAnimationFrame(() => requestAnimationFrame(() => {
          const shown = botCompare[other].chart.timeScale().getVisibleLogicalRange();
          done([Math.round(shown.from), Math.round(shown.to)]);
        }));
        """,
        moved,
        other,
    )
    box = driver.find_element("id", moved)
    before = driver.find_element("id", "cursor").text
    ActionChains(driver).move_to_element_with_offset(box, across, -60).perform()
    after = driver.find_element("id", "cursor").text

    assert ranges == [300, 400]
    assert before != after
    assert "HyperWave" in after


def test_a_click_on_the_first_bar_that_differs_brings_both_charts_there(opened):
    driver, found, _ = opened

    button = driver.find_element("css selector", "button[data-at]")
    driver.execute_script("arguments[0].click()", button)
    middle = driver.execute_script(
        "const r = botCompare.ours.chart.timeScale().getVisibleLogicalRange(); return Math.round((r.from + r.to) / 2);"
    )
    at_ms = int(button.get_attribute("data-at")) * 1000

    first = next(
        r["export_bars"]["first_divergent_ms"] for r in found.report["columns"] if r["export_bars"]["differing"]
    )
    assert at_ms == first
    assert int(BARS.open_ms[middle]) == first


def test_on_a_phone_nothing_is_wider_than_the_screen(opened):
    driver, _, _ = opened

    screen(driver, 390, 800)
    wide = driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => done(document.documentElement.scrollWidth));"
    )
    screen(driver, 1400, 1000)

    assert wide <= 390
    assert complaints(driver) == []
