"""Takes the README's pictures: the dashboard during a replay, on a desk and on a phone, chart, comparison and report as files.

`make pictures`. What is seen is real: the bot trades the synthetic market on its embedded exchange while the browser watches;
the comparison is with an export of that market whose HyperWave has another length, the report a back-test over it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bot.app.chart import write_chart
from bot.config import Config
from bot.market.synthetic import write_market
from tests.browser import browser_paths, chromium, screen
from tests.conftest import ROOT
from tests.parity_exports import OSCILLATOR, OVERLAYS, chart, market, save
from tests.test_browser_live import running_bot

FOLDER = ROOT / "docs" / "pictures"
LARGEST = 300_000  # bytes of a picture
# The columns of the exported chart that are compared: a person's own chart rarely has all.
SHOWN = (
    *("Money Flow", "Upper Money Flow Threshold", "Lower Money Flow Threshold", "Bullish Overflow", "Bearish Overflow"),
    *("HyperWave", "HWO Up", "HWO Down", "Bullish", "Bullish+", "Bearish", "Bearish+", "Smart Trail"),
)
READY = "return window.botChart && botChart.data.time.length > 1000"
NEAR = (
    "const last = botChart.data.time.length;"
    "botChart.chart.timeScale().setVisibleLogicalRange({from: last - 95, to: last + 14})"
)


def take(driver: webdriver.Chrome, name: str) -> None:
    """Write the page as it looks now."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / name
    driver.save_screenshot(str(path))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} is larger than {LARGEST:,} bytes")


def command(work: Path, *words: str) -> None:
    """Run one of the bot's commands, with a data folder of its own."""
    environment = {**os.environ, "BOT_DATA": str(work / "own"), "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "bot", *words], cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL
    )


def files(work: Path, driver: webdriver.Chrome, wait: WebDriverWait) -> None:
    """Take what the commands `chart`, `compare` and `backtest` write."""
    write_chart(Config(), work / "synthetic market", work / "chart.html", quiet=True)
    screen(driver, 1280, 800)
    driver.get((work / "chart.html").as_uri())
    wait.until(lambda d: d.execute_script(READY))
    driver.execute_script("botChart.latest()")
    time.sleep(0.5)
    take(driver, "chart.png")

    columns = {name: feature for name, feature in (OSCILLATOR | OVERLAYS).items() if name in SHOWN}
    name = "BINANCE_BTCUSDT.P, 3.csv"
    chart(market(), columns, changes={"oscillator.hyperwave_length": 14}).write(work / name)
    save(work / "klines", market())
    command(work, "compare", name, "--klines", "klines", "--out", "compare")
    screen(driver, 1280, 1150)
    driver.get((work / "compare" / "compare.html").as_uri())
    wait.until(lambda d: d.execute_script("return Boolean(window.botCompare)"))
    driver.execute_script("botCompare.show(botCompare.told.time.length - 90)")
    time.sleep(0.5)
    take(driver, "compare.png")

    command(work, "backtest", "--klines", "synthetic market", "--out", "report", "--quiet")
    screen(driver, 1280, 1150)
    driver.get((work / "report" / "report.html").as_uri())
    time.sleep(1)
    take(driver, "report.png")


def main() -> None:
    """Take all pictures."""
    paths = browser_paths()
    if paths is None:
        raise SystemExit("chromium and chromium-driver are not installed: `make browser` as root installs them")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_market(work / "synthetic market", 15, 11)
        with chromium(paths, work / "profile") as driver:
            wait = WebDriverWait(driver, 120, poll_frequency=0.1)
            files(work, driver, wait)
            (work / "data").mkdir()
            with running_bot(work / "data", work / "synthetic market") as (url, token):
                screen(driver, 1280, 1240)
                driver.get(f"{url}/#token={token}")
                wait.until(lambda d: d.find_element(By.ID, "banner-r").text.startswith(("LONG", "SHORT")))
                wait.until(lambda d: d.execute_script("return botChart.lines.length >= 3"))
                time.sleep(4)
                driver.execute_script(NEAR)
                time.sleep(0.5)
                take(driver, "live.png")
                screen(driver, 390, 844, theme="light")
                driver.execute_script("scrollTo(0, 0)")
                time.sleep(1)
                take(driver, "phone.png")


if __name__ == "__main__":
    sys.exit(main())
