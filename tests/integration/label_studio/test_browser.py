import io
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.push import push_captures
from runner.label_studio.setup import TAB, set_up
from tests.support.annotating import Bench, pictures
from tests.support.browsers import shot
from tests.support.captures import keep_capture
from tests.support.pictures import turned

PICTURE = (
    "return [...document.images].map(it => [it.naturalWidth, it.naturalHeight]).find(it => it[0] > 20 && it[1] > 20)"
)


EDITOR = ".lsf-main-view canvas, .konvajs-content canvas"


def log_in(browser: webdriver.Chrome, bench: Bench) -> WebDriverWait[webdriver.Chrome]:
    """Log in as the annotator."""
    wait = WebDriverWait(browser, 120)
    url = bench.label_studio.url
    browser.get(f"{url}/user/login/")
    wait.until(lambda driver: driver.find_element(By.NAME, "email")).send_keys("annotator@example.com")
    password = browser.find_element(By.NAME, "password")
    password.send_keys(bench.label_studio.password)
    password.submit()
    wait.until(lambda driver: "/user/login" not in driver.current_url)
    return wait


def open_task(browser: webdriver.Chrome, bench: Bench, task: int) -> WebDriverWait[webdriver.Chrome]:
    """Log in as the annotator, and open a task in the editor."""
    wait = log_in(browser, bench)
    browser.get(f"{bench.label_studio.url}/projects/{bench.id}/data?task={task}")
    wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, EDITOR))
    return wait


def test_the_models_boxes_are_on_the_task_when_an_annotator_opens_it(
    browser: webdriver.Chrome, bucket_bench: Bench, shared_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The picture comes out of the bucket through Label Studio: the browser reaches nothing else."""
    monkeypatch.setenv("MODEL_URI", str(shared_data / "planes-helis.onnx"))
    bucket_bench.title = "flyingthings"
    bucket_bench.set(labels={"title": bucket_bench.title})
    set_up(bucket_bench.project)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "airfield.jpg").write_bytes((shared_data / "same-picture" / "base.jpg").read_bytes())
    import_pictures(str(tmp_path / "new"), project=bucket_bench.project, predict=True)
    task = bucket_bench.task("airfield.jpg")
    (prediction,) = task["predictions"]
    browser.set_window_size(1280, 800)
    wait = open_task(browser, bucket_bench, task["id"])
    size = wait.until(lambda driver: driver.execute_script(PICTURE))
    assert size == [prediction["result"][0]["original_width"], prediction["result"][0]["original_height"]]
    scores = [f"{region['score']:.2f}" for region in prediction["result"]]
    wait.until(lambda driver: all(score in _text(driver) for score in scores))
    assert all(region["value"]["rectanglelabels"][0] in _text(browser) for region in prediction["result"])
    shot(browser, "label-studio.png")


def test_the_picture_is_upright_when_exif_turns_it(browser: webdriver.Chrome, bench: Bench, tmp_path: Path) -> None:
    """So what is drawn on it is in percent of the upright picture, which `labels pull` counts on."""
    set_up(bench.project)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.jpg").write_bytes(turned(6))
    import_pictures(str(tmp_path / "new"), project=bench.project)
    wait = open_task(browser, bench, bench.task("a.jpg")["id"])
    assert wait.until(lambda driver: driver.execute_script(PICTURE)) == [40, 30]


def test_the_report_stands_above_the_picture_when_an_annotator_labels_all_tasks(
    browser: webdriver.Chrome, bench: Bench, shared_data: Path, tmp_path: Path
) -> None:
    """It comes before older tasks; the tab of waiting tasks is the one that opens; other pictures have no such line."""
    set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project)
    data = (shared_data / "same-picture" / "base.jpg").read_bytes()
    size = Image.open(io.BytesIO(data)).size
    feedback = {"verdict": "wrong", "comment": "it is larger than that"}
    keep_capture(bench.store.uri, 0.41, data=data, size=size, feedback=feedback)
    push_captures(bench.project)
    browser.set_window_size(1280, 800)
    wait = log_in(browser, bench)
    browser.get(f"{bench.label_studio.url}/projects/{bench.id}/data")
    wait.until(lambda driver: "1 reported" in _text(driver))
    assert TAB in _text(browser)
    shot(browser, "label-studio-to-do.png")
    button = wait.until(lambda driver: driver.find_element(By.XPATH, "//button[contains(., 'Label All Tasks')]"))
    button.click()
    wait.until(lambda driver: "Reported as wrong · it is larger than that · " in _text(driver))
    wait.until(lambda driver: driver.execute_script(PICTURE) == list(size))
    assert "by planes 3" in _text(browser)
    wait.until(lambda driver: "0.41" in _text(driver))  # its box is there to be corrected
    shot(browser, "label-studio-reported.png")
    browser.get(f"{bench.label_studio.url}/projects/{bench.id}/data?task={bench.task('0000.jpg')['id']}")
    wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, EDITOR) and "Submit" in _text(driver))
    shot(browser, "label-studio-plain.png")
    assert not [odd for odd in ("Reported", "$note", "undefined") if odd in _text(browser)]


def _text(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text
