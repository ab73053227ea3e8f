"""The page /try, as a person uses it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browsers import Browser


class Page:
    """The page in a browser."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def open(self, url: str) -> "Page":
        self.browser.get(url)
        self.wait(lambda: self.part("#choose").is_displayed())
        return self

    def part(self, place: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, place)

    def texts(self, place: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText.trim())"
        return [str(text) for text in self.run(script, place)]

    def wait(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.browser, 30).until(lambda _: condition())

    def says(self, place: str, text: str) -> None:
        self.wait(lambda: any(text in said for said in self.texts(place)))

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def focused(self) -> WebElement:
        return self.browser.switch_to.active_element

    def press(self, place: str) -> None:
        self.part(place).click()

    def give(self, *files: Path) -> None:
        """Choose files, and wait for the answers."""
        self.part("#files").send_keys("\n".join(map(str, files)))
        self.answered()

    def answered(self) -> None:
        self.wait(lambda: (said := self.texts(".state")) and "…" not in said)

    def slide(self, value: float) -> None:
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        self.run(script, self.part("#confidence"), value)

    def boxes(self) -> list[tuple[str, list[float]]]:
        """What is drawn over the picture: the text of each box, and its corners as shares of the picture's sides."""
        script = """
            const whole = document.querySelector(".canvas img").getBoundingClientRect();
            return [...document.querySelectorAll(".canvas .box")].map((box) => {
              const { left, top, right, bottom } = box.getBoundingClientRect();
              const corners = [(left - whole.left) / whole.width, (top - whole.top) / whole.height,
                               (right - whole.left) / whole.width, (bottom - whole.top) / whole.height];
              return [box.querySelector(".label").textContent, corners];
            });"""
        return [(text, corners) for text, corners in self.run(script)]

    def sides_of(self, place: str) -> list[list[float]]:
        """Left, top, right and bottom of parts of the page, in pixels of the screen."""
        script = """return [...document.querySelectorAll(arguments[0])].map((part) => {
              const { left, top, right, bottom } = part.getBoundingClientRect();
              return [left, top, right, bottom];
            });"""
        return [[float(side) for side in sides] for sides in self.run(script, place)]

    def resize(self, width: int, height: int = 844) -> None:
        """Make the page as large as a screen of so many pixels; Firefox is never narrower than 500."""
        if isinstance(self.browser, webdriver.Firefox):
            self.browser.set_window_size(width, height)
            return
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def requests(self) -> list[dict[str, Any]]:
        """What Chromium has requested since the last call: url, method and headers of each."""
        assert isinstance(self.browser, webdriver.Chrome)
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]  # type: ignore[no-untyped-call]
        sent = [each["params"]["request"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [request for request in sent if request["url"].startswith("http")]  # blob: is no request

    def problems(self) -> list[str]:
        """What the console says of scripts and policies; refused requests are no problem of the page."""
        if isinstance(self.browser, webdriver.Firefox):
            script = """const kinds = /^content javascript$|^CSP|Content Security/;
              return Services.console.getMessageArray()
                .filter((it) => it instanceof Ci.nsIScriptError && kinds.test(it.category))
                .map((it) => it.errorMessage);"""
            with self.browser.context(self.browser.CONTEXT_CHROME):
                return [str(message) for message in self.run(script)]
        entries = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["source"] != "network"]


def by_mouse(page: Page, corners: list[float], kind: str = "mouse") -> None:
    """Draw a box, given as shares of the picture's sides; `kind` of pointer: mouse, pen or touch."""
    layer = page.part(".layer")
    x1, y1, x2, y2 = (
        share * side for share, side in zip(corners, (layer.size["width"], layer.size["height"]) * 2, strict=True)
    )
    half_x, half_y = layer.size["width"] // 2, layer.size["height"] // 2
    actions = ActionChains(page.browser, devices=[PointerInput(kind, kind)])  # type: ignore[no-untyped-call]
    actions.move_to_element_with_offset(layer, round(x1) - half_x, round(y1) - half_y).click_and_hold()
    actions.move_to_element_with_offset(layer, round((x1 + x2) / 2) - half_x, round((y1 + y2) / 2) - half_y)
    actions.move_to_element_with_offset(layer, round(x2) - half_x, round(y2) - half_y).release().perform()
