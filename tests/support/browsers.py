"""What headless Chromium sees; SCREENSHOTS=docs/images keeps it."""

import os
from pathlib import Path

from selenium import webdriver


def shot(browser: webdriver.Chrome, name: str) -> None:
    """Keep what is seen, where SCREENSHOTS says."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / name))
