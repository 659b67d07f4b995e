"""Takes the README's pictures: the dashboard during a replay, on a desk and on a phone, and the chart as a file.

`make pictures`. What is seen is real: the bot trades the synthetic market on its embedded exchange while the browser watches.
"""

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
from tests.test_browser_live import running_bot

FOLDER = ROOT / "docs" / "pictures"
LARGEST = 300_000  # bytes of a picture
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


def main() -> None:
    """Take all pictures."""
    paths = browser_paths()
    if paths is None:
        raise SystemExit("chromium and chromium-driver are not installed: `make browser` as root installs them")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_market(work / "synthetic market", 15, 11)
        write_chart(Config(), work / "synthetic market", work / "chart.html", quiet=True)
        with chromium(paths, work / "profile") as driver:
            wait = WebDriverWait(driver, 120, poll_frequency=0.1)
            screen(driver, 1280, 800)
            driver.get((work / "chart.html").as_uri())
            wait.until(lambda d: d.execute_script(READY))
            driver.execute_script("botChart.latest()")
            time.sleep(0.5)
            take(driver, "chart.png")
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
