"""A person's first minute with the API's page: headless Chromium opens it with the network cut off, and tries it out.

SCREENSHOTS=docs/images keeps what it saw.
"""

import json
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browsers import shot
from tests.support.servers import running


def try_out(browser: webdriver.Chrome, operation: str, file: Path, done: str) -> WebElement:
    """Open an operation, choose a file, press Execute, and wait for what a selector finds in the answer."""
    wait = WebDriverWait(browser, 30)
    block = wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, f'.opblock[id="{operation}"]'))
    block.find_element(By.CSS_SELECTOR, ".opblock-summary-control").click()
    chooser = wait.until(lambda _: block.find_element(By.CSS_SELECTOR, "input[type=file]"))
    chooser.send_keys(str(file))
    block.find_element(By.CSS_SELECTOR, "button.execute").click()
    answer = wait.until(lambda _: block.find_element(By.CSS_SELECTOR, f".live-responses-table {done}"))
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", answer)
    return answer


def test_boxes_seen_when_tried_without_a_network(browser: webdriver.Chrome, shared_data: Path, tmp_path: Path) -> None:
    picture = shared_data / "same-picture" / "base.jpg"
    with running(tmp_path, MODEL_URI=str(shared_data / "planes-helis.onnx")) as server:
        browser.get(f"http://127.0.0.1:{server.port}/docs")
        WebDriverWait(browser, 30).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".opblock"))
        shot(browser, "docs.png")
        drawn = try_out(browser, "operations-Detect-detect_image", picture, "img")
        WebDriverWait(browser, 30).until(lambda _: drawn.get_property("naturalWidth"))
        shot(browser, "detect-image.png")
        browser.get(f"http://127.0.0.1:{server.port}/docs")
        answer = try_out(browser, "operations-Detect-detect", picture, ".highlight-code")
        assert '"airplane"' in answer.text
        shot(browser, "detect.png")
    problems = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
    assert not problems


def test_feedback_kept_when_the_form_is_sent_as_it_is(
    browser: webdriver.Chrome, shared_data: Path, tmp_path: Path
) -> None:
    picture, store = shared_data / "same-picture" / "base.jpg", tmp_path / "store"
    with running(tmp_path, MODEL_URI=str(shared_data / "planes-helis.onnx"), CAPTURE_URI=str(store)) as server:
        request_id = server.post("/detect", picture.read_bytes()).json()["request_id"]
        browser.get(f"http://127.0.0.1:{server.port}/docs")
        wait = WebDriverWait(browser, 30)
        block = wait.until(
            lambda driver: driver.find_element(By.CSS_SELECTOR, '.opblock[id="operations-Feedback-feedback"]')
        )
        block.find_element(By.CSS_SELECTOR, ".opblock-summary-control").click()
        inputs = 'tr[data-property-name="%s"] input[type=text]'
        field = wait.until(lambda _: block.find_element(By.CSS_SELECTOR, inputs % "request_id"))
        for name in ("request_id", "boxes", "comment"):
            assert block.find_element(By.CSS_SELECTOR, inputs % name).get_property("value") == "", name
        field.send_keys(request_id)
        block.find_element(By.CSS_SELECTOR, "button.execute").click()
        answer = wait.until(
            lambda _: block.find_element(By.CSS_SELECTOR, ".live-responses-table .response .response-col_status")
        )
        assert answer.text.startswith("200"), block.text
        said = json.loads(next(store.rglob(f"{request_id}.feedback.json")).read_text())
        assert (said["verdict"], said["boxes"], said["comment"]) == ("missed", None, None)
        shot(browser, "feedback.png")
