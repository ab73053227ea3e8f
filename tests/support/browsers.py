"""Headless Chromium, and what it sees; SCREENSHOTS=docs/images keeps that."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.support.processes import unavailable


@contextmanager
def headless(profile: Path, *hosts: str, flags: tuple[str, ...] = ()) -> Iterator[webdriver.Chrome]:
    """Give a browser that reaches these hosts and nothing else, until the block ends; its files are in `profile`."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        unavailable("chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"),
        "--host-resolver-rules=" + ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in hosts)]),
        *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
        f"--user-data-dir={profile}",
        *flags,
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()


def shot(browser: webdriver.Chrome, name: str) -> None:
    """Keep what is seen, where SCREENSHOTS says."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / name))
