"""The dashboard in a real browser while a replay runs: lights as the engine decided, Flatten asks and works, phone and keys."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from bot.backtest.market import find_start, load_market
from bot.config import Config
from bot.core.events import Command
from bot.core.types import Side
from bot.journal import Journal
from bot.market.synthetic import write_market
from bot.strategy import rules
from bot.strategy.rules import TITLES
from tests.browser import chromium, complaints, need_browser, screen
from tests.conftest import ROOT

pytestmark = [pytest.mark.wire, pytest.mark.slow]
SPEED = 150  # a bar in 1.2 s: longer than a frame of the page, so that each is shown
LEAD_MINUTES = 24  # ten seconds in which the page is loaded twice
LIT_BARS = 10
NAMES = ("htf", "ob", "hw_cross", "no_overflow", "conf", "trail")
# Keep what the page shows of each bar: when it changes, and all twelve lights.
WATCH = """
window.seen = {};
const look = () => {
  const bar = document.documentElement.dataset.bar;
  if (!bar) return;
  const read = (side) => [...document.querySelectorAll(`#${side} li`)].map((row) => row.classList.contains("on") ? 1 : 0);
  window.seen[bar] = { long: read("long"), short: read("short"), words: document.querySelector("#long").innerText };
};
new MutationObserver(look).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bar"] });
"""


@contextmanager
def running_bot(folder, klines, *more):
    """A bot in a process of its own, as a person starts it; yields its address and token."""
    environment = {**os.environ, "BOT_DATA": str(folder)}
    command = [sys.executable, "-m", "bot", "run", "--klines", str(klines), "--port", "0", "--speed", str(SPEED)]
    command += ["--set", f"sim.lead_minutes={LEAD_MINUTES}", *more]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while not (folder / "run.json").is_file():
            assert process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        told = json.loads((folder / "run.json").read_text())
        yield f"http://127.0.0.1:{told['port']}", (folder / "token").read_text().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(need_browser(), tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def klines(tmp_path_factory):
    """A synthetic market with a signal in it."""
    folder = tmp_path_factory.mktemp("market")
    write_market(folder, 15, 11)
    assert find_start(Config(), load_market(Config(), folder), from_ms=None, to_ms=None).signal_ms
    return folder


def text_of(driver, name):
    return driver.find_element(By.ID, name).text


def test_a_replay_watched_from_start_to_flatten(driver, klines, tmp_path):
    """One run, because a replay cannot be wound back: each step below is a promise of its own."""
    wait = WebDriverWait(driver, 40, poll_frequency=0.1)
    screen(driver, 1400, 1000)
    with running_bot(tmp_path, klines) as (url, token):
        # Without the token the page only looks.
        driver.get(url)
        driver.execute_script(WATCH)
        wait.until(lambda d: d.find_element(By.ID, "mode").text.startswith("SIMULATION"))
        assert text_of(driver, "rights") == "read-only"
        assert not any(b.is_enabled() for b in driver.find_elements(By.CSS_SELECTOR, "[data-command]"))
        wait.until(lambda d: d.execute_script("return window.botChart && botChart.data.time.length > 1000"))

        # The chart grows with each bar; the newest bar is the one that was decided.
        first = driver.execute_script("return botChart.data.time.length")
        wait.until(lambda d: d.execute_script("return botChart.data.time.length") > first)
        assert driver.execute_script("return document.querySelectorAll('#long .strip path').length") == 6
        names = [each.text for each in driver.find_elements(By.CSS_SELECTOR, "#long .label")]
        assert names == [TITLES[tag] for tag in rules.NAMES[Side.LONG]]

        # The address that the bot prints brings the token; it does not stay in the address bar.
        driver.execute_script("location.replace(arguments[0]); location.reload()", f"{url}/#token={token}")
        wait.until(lambda d: d.execute_script("return window.botChart && botChart.data.time.length > 1000"))
        driver.execute_script(WATCH)
        assert token not in driver.current_url
        assert text_of(driver, "rights") == ""

        # A position opens; it stands on the chart with its levels, and Flatten asks before it acts.
        wait.until(lambda d: text_of(d, "banner-r").startswith(("LONG", "SHORT")))
        wait.until(lambda d: d.execute_script("return botChart.lines.length") >= 3)
        flatten = driver.find_element(By.CSS_SELECTOR, "header [data-command=flatten]")
        flatten.click()
        wait.until(lambda d: d.find_element(By.ID, "sure").is_displayed())
        assert text_of(driver, "sure-what").startswith(("LONG", "SHORT"))
        assert driver.switch_to.active_element.get_attribute("id") == "sure-no"
        driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        wait.until(lambda d: not d.find_element(By.ID, "sure").is_displayed())
        assert text_of(driver, "answer") == ""
        flatten.click()
        wait.until(lambda d: d.find_element(By.ID, "sure").is_displayed())
        driver.find_element(By.ID, "sure-yes").click()
        wait.until(lambda d: text_of(d, "answer") == "Accepted: flatten.")
        wait.until(lambda d: text_of(d, "banner-r") == "flat")
        assert "Entries are off" in text_of(driver, "trouble")

        # The trade is in the table; a press shows its bar as it was decided.
        wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#trades tr"))
        driver.find_element(By.CSS_SELECTOR, "#trades button").click()
        wait.until(lambda d: text_of(d, "then-verdict").startswith("entered"))
        side = driver.find_element(By.CSS_SELECTOR, "#trades td:nth-child(2)").text.lower()
        lamps = driver.find_elements(By.CSS_SELECTOR, f"#then-{side} li")
        assert [("on" in lamp.get_attribute("class")) for lamp in lamps] == [True] * 6

        # Other symbols by key, and back.
        driver.find_element(By.TAG_NAME, "body").send_keys("3")
        wait.until(lambda d: d.execute_script("return botChart.data.symbol") == "SOLUSDT")
        driver.find_element(By.TAG_NAME, "body").send_keys("1")
        wait.until(lambda d: d.execute_script("return botChart.data.symbol") == "BTCUSDT")

        # On a phone nothing is cut off, and the buttons are there.
        screen(driver, 390, 844, scale=2.0)
        time.sleep(0.5)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert flatten.is_displayed()
        screen(driver, 1400, 1000)

        wait.until(lambda d: len(d.execute_script("return window.seen")) >= LIT_BARS)
        seen = driver.execute_script("return window.seen")
        wait.until(lambda d: re.search(r"\b0 of [1-9]\d* closed bars rewritten", text_of(d, "truth")))
        # A busy bot answers a guest with 429, and the page asks again (live_chart.js): a browser logs that as an error.
        assert [told for told in complaints(driver) if "429 (Too Many Requests)" not in told] == []

    with Journal(tmp_path / "bot.db", read_only=True) as journal:
        session = journal.sessions()[-1]["id"]
        decisions = {decision.open_ms: decision for decision in journal.decisions(session)}
        (trade,) = [trade for trade in journal.trades(session) if trade.fills]
        words = [e for _, e in journal.events(session) if isinstance(e, Command) and e.name == "flatten"]
    for bar, shown in seen.items():
        decision = decisions[int(bar)]
        assert (shown["long"], shown["short"]) == ([*map(int, decision.long)], [*map(int, decision.short)]), bar
    assert words
    if trade.closed_ms > words[0].at_ms:  # on a busy machine the market may have been sooner than the press
        assert trade.exit_reason in ("flatten", "operator")
