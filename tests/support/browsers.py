"""Headless Chromium and Firefox, and what they see; SCREENSHOTS=docs/images keeps what Chromium sees."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.firefox.service import Service as Geckodriver

from tests.support.processes import unavailable

Browser = webdriver.Chrome | webdriver.Firefox


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


@contextmanager
def firefox(profile: Path, *hosts: str) -> Iterator[webdriver.Firefox]:
    """Give a browser that reaches these hosts and nothing else, until the block ends; skip where there is none."""
    binary = shutil.which("firefox-esr") or shutil.which("firefox")
    geckodriver = shutil.which("geckodriver")
    if not binary or not geckodriver:
        pytest.skip("Firefox is missing: apt-get install firefox-esr, and cargo install --locked geckodriver")
    profile.mkdir()
    options = webdriver.FirefoxOptions()
    options.binary_location = binary
    for argument in ("-headless", "--width=1280", "--height=1400", "-remote-allow-system-access"):
        options.add_argument(argument)
    preferences: dict[str, str | int | bool] = {
        "network.proxy.type": 1,
        "network.proxy.no_proxies_on": ", ".join(hosts),
        "network.proxy.http": "127.0.0.1",
        "network.proxy.http_port": 9,  # nothing listens there
        "network.proxy.ssl": "127.0.0.1",
        "network.proxy.ssl_port": 9,
        "media.navigator.streams.fake": True,
        "media.navigator.permission.disabled": True,
    }
    for name, value in preferences.items():
        options.set_preference(name, value)
    driver = webdriver.Firefox(options, Geckodriver(geckodriver, log_output=str(profile / "geckodriver.log")))
    try:
        yield driver
    finally:
        driver.quit()


def shot(browser: Browser, name: str) -> None:
    """Keep what Chromium sees, where SCREENSHOTS says."""
    if isinstance(browser, webdriver.Chrome) and (folder := os.environ.get("SCREENSHOTS")):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / name))
