"""A real browser for tests and pictures: headless Chromium from the system's packages, driven over loopback."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

# No browser service may speak to the outside; drawing is done in software, as on any server.
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--proxy-server=direct://", "--proxy-bypass-list=*"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def browser_paths() -> tuple[str, str] | None:
    """Return where Chromium and its driver are; None when one is missing."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


def need_browser() -> tuple[str, str]:
    """Return the paths, or skip with the reason; under CI their absence is a failure."""
    found = browser_paths()
    if found is None:
        reason = "chromium and chromium-driver are not installed: `make browser` as root installs them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def chromium(paths: tuple[str, str], profile: Path) -> Iterator[webdriver.Chrome]:
    """Run a browser with a fresh profile."""
    options = Options()
    options.binary_location = paths[0]
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    try:
        driver.set_page_load_timeout(30)
        driver.set_script_timeout(60)
        yield driver
    finally:
        driver.quit()


def screen(driver: webdriver.Chrome, width: int, height: int, *, theme: str = "dark", scale: float = 1.0) -> None:
    """Give the page a screen of this size and the person's taste in light."""
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    taste = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": taste})


def complaints(driver: webdriver.Chrome) -> list[str]:
    """Return what the page's console complained about since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
