"""The page /try in headless Chromium and Firefox, with the network cut off, before real servers.

SCREENSHOTS=docs/images keeps what it saw.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
from PIL import Image, ImageOps
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.integration.conftest import GRID
from tests.support.browsers import firefox, headless, shot
from tests.support.processes import free_port
from tests.support.servers import Server, running
from tests.support.shades import shade
from tests.support.try_page import Page, by_mouse
from tests.unit.conftest import model

EVIL = "<img src=x onerror=document.title=1>"


@pytest.fixture(params=[headless, firefox], ids=["chromium", "firefox"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    with request.param(tmp_path / "profile", "127.0.0.1") as driver:
        yield Page(driver)


@pytest.fixture
def chromium_page(browser: webdriver.Chrome) -> Page:
    """For what Chromium alone tells: headers of requests, the accessibility tree."""
    return Page(browser)


def saved(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A large bright picture: an airplane of confidence 0.5 is found in its middle, a helicopter of 0.6 beside it."""
    return saved(tmp_path, "photo.jpg", Image.new("RGB", (4000, 3000), (140, 140, 140)))


def test_boxes_follow_slider_and_classes_without_a_request_when_a_picture_was_given(
    page: Page, shared_data: Path, tmp_path: Path
) -> None:
    picture, *more = (shared_data / "same-picture" / name for name in ("base.jpg", "pic.tiff", "exif6.jpg"))
    other = {"ENVIRONMENT": "dev", "COMPARE_URLS": "https://flywheel-baseline.apps.example.org"}
    settings = {"MODEL_URI": str(shared_data / "planes-helis.onnx"), "CAPTURE_URI": str(tmp_path / "store"), **other}
    with running(tmp_path, **settings) as server:
        page.open(server.url).give(picture, *more)
        assert page.browser.current_url.endswith("/try")
        answer = server.post("/detect", picture.read_bytes()).json()
        expected = {f"{each['label']} {each['confidence']:.2f}": each["box"] for each in answer["detections"]}
        page.wait(lambda: dict(page.boxes()).keys() == expected.keys())
        for text, corners in page.boxes():
            x1, y1, x2, y2 = (expected[text][side] for side in ("x1", "y1", "x2", "y2"))
            sides = [x1 / answer["width"], y1 / answer["height"], x2 / answer["width"], y2 / answer["height"]]
            assert corners == pytest.approx(sides, abs=0.01)
        asked = page.run("return performance.getEntriesByType('resource').length")
        for confidence in (0.06, 0.3, 0.9):
            page.slide(confidence)
            counts = server.post(f"/detect?confidence={confidence}", picture.read_bytes()).json()["counts"]
            assert len(page.boxes()) == sum(counts.values())
        page.slide(0.06)
        shown = page.boxes()
        page.press("#class-list li:first-child input")
        assert page.boxes() == [each for each in shown if not each[0].startswith("airplane")] != shown
        page.press("#class-list li:first-child input")
        page.slide(0.25)
        page.press("#own")
        assert dict(page.boxes()).keys() == expected.keys()
        assert page.run("return performance.getEntriesByType('resource').length") == asked
        page.browser.set_window_size(1280, 1000)
        shot(page.browser, "try.png")
        page.press("#report")
        (*_, airplane_ends), (_, helicopter_begins, *_) = sorted(page.sides_of(".drawing .label"), key=lambda it: it[1])
        assert airplane_ends <= helicopter_begins  # both names are seen
        by_mouse(page, [0.6, 0.6, 0.8, 0.75])
        shot(page.browser, "try-report.png")
        page.press("#cancel")
        assert dict(page.boxes()).keys() == expected.keys()
        assert page.part("a[href=docs]").is_displayed()
        page.press("a[href=docs]")
        page.wait(lambda: page.texts(".opblock"))
        assert "try" in page.texts(".info a")[-1] or any("page for people" in text for text in page.texts(".info a"))
        assert page.problems() == []


@pytest.mark.parametrize("prefix", ["", "/vision"])
def test_files_at_hand_and_nothing_else_when_the_server_has_a_prefix_and_a_key(
    prefix: str, tmp_path: Path, bright_model: Path
) -> None:
    flags = ["--root-path", prefix] if prefix else []
    with running(tmp_path, flags=flags, MODEL_URI=str(bright_model), API_KEY="geheim") as server:
        for path in ("/", "/try/"):
            assert server.get(path).headers["location"] == f"{prefix}/try", path
        kinds = {"": "text/html", "/try.js": "text/javascript", "/try.css": "text/css", "/icon.svg": "image/svg+xml"}
        for name, kind in kinds.items():
            answer = server.get(f"/try{name}")
            assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
            rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
            assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'" == rules["script-src"]
            assert (
                b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
                and b"https://" not in answer.body
            )
        assert b"geheim" not in server.get("/try/settings").body
        for name in ("try.html", "..%2fapp.py", "../app.py", "%2e%2e/app.py", "nothing.js", "try.js/x"):
            assert server.get(f"/try/{name}").status == 404, name


def turned(folder: Path, name: str, orientation: int, **options: Any) -> Path:
    """A picture whose four quarters differ, with an EXIF orientation."""
    quarters = np.zeros((60, 80, 3), np.uint8)
    quarters[:30, :40], quarters[:30, 40:], quarters[30:, :40] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(folder, name, Image.fromarray(quarters), exif=exif, **options)


def test_picture_upright_below_its_boxes_when_a_file_is_turned_or_no_browser_shows_it(
    page: Page, server: Server, tmp_path: Path
) -> None:
    files = [turned(tmp_path, f"{turn}.jpg", turn) for turn in range(1, 9)]
    files += [turned(tmp_path, f"{turn}.png", turn) for turn in (1, 3, 6)]
    files += [
        turned(tmp_path, "3.webp", 3, lossless=True),
        turned(tmp_path, "8.tiff", 8),
        turned(tmp_path, "2.avif", 2),
    ]
    files += [saved(tmp_path, "plain-jpeg-2000.jp2", Image.open(files[0]))]
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="3"/></x:xmpmeta>'
    files += [saved(tmp_path, "xmp.jpg", Image.open(files[0]), xmp=xmp)]
    page.open(server.url).give(*files)
    assert page.run(
        "return [...document.querySelectorAll('.strip bdi')].every((it) => it.scrollWidth <= it.clientWidth)"
    )
    for number, file in enumerate(files, 1):
        page.press(f".strip li:nth-child({number}) button")
        page.wait(
            lambda: page.run("const it = document.querySelector('.canvas img'); return it.complete && it.naturalWidth")
        )
        script = """
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [2, 2];
            const context = canvas.getContext("2d");
            context.imageSmoothingQuality = "high";
            context.drawImage(document.querySelector(".canvas img"), 0, 0, 2, 2);
            return [...context.getImageData(0, 0, 2, 2).data];"""
        seen = np.array(page.run(script)).reshape(2, 2, 4)[..., :3]
        upright = ImageOps.exif_transpose(Image.open(file)).convert("RGB").resize((2, 2), Image.Resampling.BOX)
        assert np.abs(seen - np.asarray(upright, int)).max() < 60, file.name
        width, height = page.run(
            "const {width, height} = document.querySelector('.canvas').getBoundingClientRect(); return [width, height]"
        )
        answer = server.post("/detect", file.read_bytes()).json()
        assert width / height == pytest.approx(answer["width"] / answer["height"], rel=0.02), file.name
    assert page.problems() == []


def by_finger(page: Page, corners: list[float]) -> None:
    page.run("document.querySelector('.layer').scrollIntoView({block: 'center'})")
    by_mouse(page, corners, "touch")


def by_keyboard(page: Page, corners: list[float]) -> None:
    """Add a box and bring it there, by the keyboard alone: with arrows to its place, then by its numbers."""
    page.wait(lambda: page.run("return document.activeElement.id") == "add")
    page.focused().send_keys(Keys.ENTER)
    assert (page.focused().get_attribute("aria-label") or "").startswith("Box 3, ")
    before = page.boxes()[-1][1]
    page.focused().send_keys(Keys.ARROW_RIGHT * 3 + Keys.ARROW_UP)
    page.focused().send_keys(Keys.SHIFT + Keys.ARROW_LEFT * 2)
    after = page.boxes()[-1][1]
    assert after[0] > before[0] and after[1] < before[1] and after[2] - after[0] < before[2] - before[0]
    place = "#boxes li:last-child details"
    summary = page.part(f"{place} summary")
    for _ in range(60):
        if page.focused() == summary:
            break
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
    page.focused().send_keys(Keys.ENTER)
    for number in range(4):
        field = page.part(f"{place} label:nth-child({number + 1}) input")
        field.send_keys(Keys.CONTROL + "a")
        field.send_keys(f"{corners[number] * (4000, 3000)[number % 2]:.1f}", Keys.TAB)


def test_a_picture_counts_as_answered_when_it_can_be_drawn_on(
    page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    """A report that was begun earlier lost its editor when the picture came."""
    with running(tmp_path, MODEL_URI=str(bright_model), CAPTURE_URI=str(tmp_path / "store")) as server:
        page.open(server.url)
        page.run("""
            const decode = HTMLImageElement.prototype.decode;
            const shown = new Promise((resolve) => { window.show = resolve; });
            HTMLImageElement.prototype.decode = async function () {
              window.decodes = true;
              await shown;
              return decode.call(this);
            };""")
        page.part("#files").send_keys(str(photo))
        page.wait(lambda: page.run("return window.decodes"))
        page.slide(0.3)
        assert "…" in page.texts(".state")
        page.run("window.show()")
        page.answered()
        page.press("#report")
        by_mouse(page, [0.7, 0.1, 0.9, 0.3])
        assert len(page.texts("#boxes li")) == 3
        assert page.problems() == []


@pytest.mark.parametrize("draw", [by_mouse, by_finger, by_keyboard])
def test_missed_box_kept_in_pixels_of_the_original_when_it_is_drawn(
    draw: Callable[[Page, list[float]], None], page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    if draw is by_finger:
        page.resize(390)
    with running(tmp_path, MODEL_URI=str(bright_model), CAPTURE_URI=str(store)) as server:
        page.open(server.url).give(photo)
        page.press("#report")
        assert page.part("#verdict").text.startswith("Verdict: correct")
        draw(page, [0.7, 0.1, 0.9, 0.3])
        page.part("#boxes li:last-child input").clear()
        page.part("#boxes li:last-child input").send_keys("hot-air balloon")
        page.part("#comment").send_keys("above <the> hill")
        assert page.part("#verdict").text.startswith("Verdict: missed (1 missed)")
        page.press("#send")
        page.says("#report-note", "Reported as missed")
        said = json.loads(next(store.rglob("*.feedback.json")).read_text())
        capture = json.loads(Path(str(next(store.rglob("*.feedback.json"))).replace(".feedback", "")).read_text())
    assert (said["verdict"], said["comment"], said["unknown_classes"]) == (
        "missed",
        "above <the> hill",
        ["hot-air balloon"],
    )
    assert {each["label"] for each in said["boxes"]} == {"airplane", "helicopter", "hot-air balloon"}
    drawn = next(each["box"] for each in said["boxes"] if each["label"] == "hot-air balloon")
    screen_px = 4000 / 300  # on a phone
    assert [drawn[side] for side in ("x1", "y1", "x2", "y2")] == pytest.approx(
        [2800, 300, 3600, 900], abs=2 * screen_px
    )
    # What the server keeps is its answer by the model's own thresholds, though the page asked for more.
    assert [each["label"] for each in capture["detections"]] == ["helicopter", "airplane"]
    assert page.problems() == []


def test_wrong_boxes_reported_and_corrected_when_the_server_has_forgotten_the_picture(
    page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    settings = {
        "MODEL_URI": str(bright_model),
        "CAPTURE_URI": str(store),
        "RECENT_BYTES": "0",
        "CAPTURE_STRATEGIES": "",
    }
    with running(tmp_path, **settings) as server:
        page.open(server.url).give(photo)
        for verdict in ("wrong", "missed"):
            page.press("#report")
            page.press("#boxes li:first-child button")
            if verdict == "missed":
                page.press("#add")
            ActionChains(page.browser).send_keys(Keys.ARROW_LEFT).perform()
            page.press("#send")
            page.says("#report-note", f"Reported as {verdict}")
        said = [json.loads(path.read_text()) for path in store.rglob("*.feedback.json")]
    assert sorted((each["verdict"], len(each["boxes"])) for each in said) == [("missed", 2), ("wrong", 1)]
    assert len({each["about"] for each in said}) == 2


def test_states_of_reports_shown_when_the_tab_is_opened_again(
    page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    store, port = tmp_path / "store", str(free_port())
    settings = {
        "MODEL_URI": str(bright_model),
        "CAPTURE_URI": str(store),
        "CAPTURE_STRATEGIES": "",
        "API_KEY": "geheim",
    }
    with running(tmp_path, port=port, **settings) as server:
        page.open(server.url)
        page.wait(lambda: page.part("#key-dialog").is_displayed())
        page.part("#key-input").send_keys("geheim", Keys.ENTER)
        page.give(photo)
        assert not page.part("#reports").is_displayed()
        page.press("#report")
        page.press("#send")
        page.says("#report-list li", "photo.jpg: received")
        (report,) = page.run(f"return JSON.parse(sessionStorage['reports to http://127.0.0.1:{port}/'])")
        assert page.run("return localStorage.length") == 0
    reports = {"reports": {report: {"state": "open"}}, "versions": []}
    (store / "feedback").mkdir()
    (store / "feedback/reports.json").write_text(json.dumps(reports))
    with running(tmp_path, port=port, **settings) as server:
        page.open(server.url)
        page.says("#report-list li", f"Report {report[:8]}: waits for an annotator")
        page.press("#look")
        page.says("#status", "up to date")
    assert page.problems() == []


def test_answer_and_boxes_kept_when_the_server_stops_before_a_report(
    page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_URI": str(bright_model), "CAPTURE_URI": str(tmp_path / "store"), "port": str(free_port())}
    page.resize(390)
    with running(tmp_path, **settings) as server:
        page.open(server.url).give(photo)
        page.press("#report")
        page.press("#send")
        page.says("#report-note", "Reported as correct")
        page.press("#report")
        page.press("#add")
    page.press("#send")
    page.says("#banner", "Not reported")
    ((_, top, _, bottom),) = page.sides_of("#banner")
    assert 0 <= top < bottom <= page.run("return innerHeight")  # though the button is far below
    assert len(page.texts("#boxes li")) == 3
    page.press("#cancel")
    assert not page.part("#banner").is_displayed()
    assert len(page.boxes()) == 2
    page.press("#report")
    with running(tmp_path, **settings):
        page.press("#send")
        page.says("#status", "Reported as correct")
    assert page.problems() == []


def test_models_own_thresholds_in_force_when_the_tab_is_loaded_again(page: Page, server: Server) -> None:
    """Firefox brings back what was ticked before, but not what was computed from it."""
    page.open(server.url)
    page.slide(0.9)
    page.run("window.before = true; setTimeout(() => location.reload())")
    page.wait(lambda: page.run("return !window.before && !document.getElementById('main').hidden"))
    assert page.part("#own").is_selected()


@contextmanager
def two_servers(folder: Path, here: dict[str, str], other: dict[str, str]) -> Iterator[tuple[Server, Server]]:
    """The page's server, and another that lets its page compare."""
    (folder / "here").mkdir()
    (folder / "other").mkdir()
    ports = str(free_port()), str(free_port())
    here = {"COMPARE_URLS": f"http://127.0.0.1:{ports[1]}"} | here
    other = {"CORS_ORIGINS": f"http://127.0.0.1:{ports[0]}"} | other
    with (
        running(folder / "here", port=ports[0], **here) as first,
        running(folder / "other", port=ports[1], **other) as second,
    ):
        yield first, second


def test_key_asked_for_once_and_sent_to_its_server_alone_when_two_servers_want_one(
    chromium_page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    page = chromium_page

    def enter(key: str) -> None:
        page.part("#key-input").send_keys(key, Keys.ENTER)

    def dialog() -> WebElement:
        return page.part("#key-dialog")

    here, other = ({"MODEL_URI": str(bright_model), "API_KEY": key} for key in ("of-here", "of-other"))
    with two_servers(tmp_path, here, other) as (server, second):
        page.open(server.url)
        page.says("#key-dialog", f"127.0.0.1:{server.port}")
        enter("wrong")
        page.says("#key-dialog", "refused")
        enter("of-here")
        page.give(photo)
        assert not dialog().is_displayed()
        Select(page.part("#compare")).select_by_index(1)
        page.says("#key-dialog", f"127.0.0.1:{second.port}")
        page.press("#key-cancel")
        page.says("#found", "wants a key")
        page.press("#compare-key")
        enter("of-other")
        page.wait(lambda: len(page.boxes()) == 4)
        page.browser.refresh()
        page.says("#model", "local · ")
        page.give(photo)
        assert not dialog().is_displayed()
        sent = page.requests()
        for each, keys in ((server, {"wrong", "of-here"}), (second, {"of-other"})):
            about = [request for request in sent if f":{each.port}/" in request["url"]]
            assert {it["headers"]["X-API-Key"] for it in about if "X-API-Key" in it["headers"]} == keys
        assert {urlsplit(request["url"]).port for request in sent} == {server.port, second.port}
        assert page.run("return localStorage.length + document.cookie.length") == 0
        page.browser.switch_to.new_window("tab")
        page.open(server.url)
        page.wait(lambda: dialog().is_displayed())  # a tab has its own keys
    assert page.problems() == []


def weighed(source: Path, target: Path, shares: list[float]) -> Path:
    """A detector with these shares of another's scores, one a class."""
    file = onnx.load(source)
    graph = file.graph
    found = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["unweighed" if name == found else name for name in node.output]
    weights = np.array([1] * 4 + shares, np.float32).reshape(1, -1, 1)
    graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    graph.node.append(onnx.helper.make_node("Mul", ["unweighed", "weights"], [found]))
    onnx.save(file, target)
    return target


def test_differences_shown_when_two_servers_are_compared(page: Page, shared_data: Path, tmp_path: Path) -> None:
    model_file, picture = shared_data / "planes-helis.onnx", shared_data / "same-picture" / "base.jpg"
    half = weighed(model_file, tmp_path / "stock.onnx", [1.2, 0.5])  # finds the airplane alone
    here = {"MODEL_URI": str(model_file), "ENVIRONMENT": "dev", "CAPTURE_URI": str(tmp_path / "here's")}
    other = {"MODEL_URI": str(half), "CAPTURE_URI": str(tmp_path / "store"), "CAPTURE_STRATEGIES": "random:1"}
    with two_servers(tmp_path, here, other) as (server, second):
        page.open(server.url).give(picture)
        Select(page.part("#compare")).select_by_index(1)
        page.wait(lambda: page.texts("#found h2") == ["Found here", f"Found by 127.0.0.1:{second.port}"])
        page.wait(lambda: len(page.texts("#found li")) == 3)
        rows = page.texts("#found li")
        assert [(text.split()[0], "only here" in text) for text in rows] == [
            ("airplane", False),
            ("helicopter", True),
            ("airplane", False),
        ]
        airplane, helicopter = sorted(page.sides_of("figure:first-child .label"), key=lambda sides: sides[1])
        assert airplane[3] <= helicopter[1]  # two boxes at one place: a name above, the other below
        page.browser.set_window_size(1280, 1000)
        page.press("h1")
        shot(page.browser, "try-compare.png")
        assert not list((tmp_path / "store").rglob("*.jpg"))  # the picture was sent to be compared, not to be kept
    assert page.problems() == []


def test_remedy_named_when_the_other_server_does_not_know_the_page(
    page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_URI": str(bright_model)}
    for origins in ("", "https://elsewhere.example.org"):
        folder = tmp_path / (origins[:5] or "none")
        folder.mkdir()
        with two_servers(folder, settings, settings | {"CORS_ORIGINS": origins}) as (server, second):
            origin = f"http://127.0.0.1:{server.port}"
            page.open(server.url).give(photo)
            Select(page.part("#compare")).select_by_index(1)
            page.says("#found", f"CORS_ORIGINS has to name {origin}")
            assert not any("only here" in row for row in page.texts("#found li"))  # nothing was compared
            assert not any("()" in caption for caption in page.texts("figcaption"))
            for left, top, right, bottom in page.sides_of(".canvas"):
                assert (right - left) / (bottom - top) == pytest.approx(4000 / 3000, rel=0.02)
            for asked in (
                second.get("/model", Origin=origin),
                second.ask("OPTIONS", "/detect", None, {"Origin": origin}),
            ):
                assert "access-control-allow-origin" not in asked.headers


def test_nothing_reported_when_a_form_of_another_page_is_sent(page: Page, server: Server) -> None:
    found = server.post("/detect", shade(140)).json()
    fields = {"request_id": found["request_id"], "verdict": "wrong"}
    inputs = "".join(f"<input name={name} value={value}>" for name, value in fields.items())
    form = f"<form method=post enctype=multipart/form-data action=http://127.0.0.1:{server.port}/feedback>{inputs}"
    page.browser.get(f"data:text/html,{form}<button>")
    page.press("button")
    page.wait(lambda: "page of another server" in page.part("body").text)
    assert server.get(f"/feedback/{fields['request_id']}").status == 404
    assert b'flywheel_rejects_total{reason="cross_site"}' in server.get("/metrics").body
    parts = [(name, None, value.encode()) for name, value in fields.items()]
    assert server.post_form("/feedback", parts).status == 200  # a program


def test_names_are_text_and_policy_holds_when_they_are_hostile(page: Page, tmp_path: Path) -> None:
    evil = tmp_path / "evil.onnx"
    evil.write_bytes(model(GRID, bright=(4, 0), names=str({0: EVIL, 1: "&lt;b>'"})))
    with running(tmp_path, MODEL_URI=str(evil), CAPTURE_URI=str(tmp_path / "store")) as server:
        page.open(server.url)
        script = """
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(arguments[0]);
            transfer.items.add(new File([bytes], arguments[1], { type: "image/png" }));
            transfer.items.add(new File(["<script>alert(1)</script>"], "x.html", { type: "text/html" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));"""
        page.run(script, list(shade(140)), f"{EVIL}\u202e.png")
        page.answered()
        page.wait(lambda: len(page.boxes()) == 2)
        assert page.texts(".strip bdi") == [f"{EVIL}\u202e.png", "x.html"]
        assert page.texts(".strip .state") == ["2 boxes", "not answered"]
        assert EVIL in page.texts("#class-list li label") and any(text.startswith(EVIL) for text, _ in page.boxes())
        page.press("#report")
        page.press("#send")
        page.says("#report-note", "Reported as correct")
        page.press(".strip li:nth-child(2) button")
        page.says("figcaption", "picture")
        assert page.browser.title == "Try the model" and page.problems() == []
        # Were there a hole in the page, its policy would still be there.
        assert page.run("try { document.body.innerHTML = '<b>'; } catch (error) { return error.name; }") == "TypeError"
        attempts = """
            const done = arguments[0];
            const seen = [];
            document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
            document.body.setAttribute("style", "color: red");
            document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:9/x.png" }));
            const tries = ["http://127.0.0.1:9/", "https://example.org/"].map((url) => fetch(url));
            Promise.allSettled(tries).then(() => setTimeout(() => done(seen), 500));"""
        assert set(page.browser.execute_async_script(attempts)) == {"connect-src", "img-src", "style-src-attr"}


def test_answered_or_told_why_when_a_file_is_too_large_or_the_camera_gives_it(
    page: Page, bright_model: Path, photo: Path, tmp_path: Path
) -> None:
    with running(tmp_path, MODEL_URI=str(bright_model), MAX_PICTURE_BYTES="200000") as server:
        (tmp_path / "large.jpg").write_bytes(photo.read_bytes() + bytes(200_000))
        page.open(server.url).give(tmp_path / "large.jpg")
        assert "expected at most 0.2 MB" in page.part("figcaption").text
        page.press("#camera")
        page.wait(lambda: page.run("return document.querySelector('#video').videoWidth"))
        page.press("#shoot")
        page.wait(lambda: len(page.texts(".strip li")) == 2)
        page.answered()
        assert page.texts(".state")[1].endswith(("box", "boxes"))
        assert page.part("#report-note").text.startswith("This server keeps no pictures")
        assert not page.part("#report").is_enabled()
    assert page.problems() == []


def test_every_control_named_and_nothing_wider_than_the_screen_when_a_phone_or_a_screen_reader_reads(
    chromium_page: Page, server: Server, photo: Path
) -> None:
    page, cdp = chromium_page, chromium_page.browser
    assert isinstance(cdp, webdriver.Chrome)
    controls = {"button", "textbox", "slider", "checkbox", "combobox", "spinbutton", "link", "image", "figure"}
    for width in (1280, 320):
        page.resize(width)
        page.open(server.url).give(photo)
        for press in ("#zoom-in", "#report", "#draw"):
            page.press(press)
            nodes = cdp.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
            named = [
                (each["role"]["value"], each.get("name", {}).get("value")) for each in nodes if not each["ignored"]
            ]
            assert {role for role, _ in named} > {"button", "link", "image"}
            assert [role for role, name in named if role in controls - {"figure"} and not name] == []
            assert page.run("return document.documentElement.scrollWidth <= innerWidth"), (width, press)
    forced = {"features": [{"name": "forced-colors", "value": "active"}]}
    cdp.execute_cdp_cmd("Emulation.setEmulatedMedia", forced)
    for pressed, style in (("false", "none"), ("true", "solid")):
        assert page.part("#draw").get_attribute("aria-pressed") == pressed
        page.run("document.activeElement.blur()")
        assert page.run("return getComputedStyle(document.getElementById('draw')).outlineStyle") == style
        page.press("#draw")
