import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.decoding.pool import Decoding, Elsewhere
from serving.decoding.program import TASKS, fitted, read_picture
from serving.errors import Refused
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.vision.headers import Header, PictureError, TooLargeError, UnreadableError
from serving.vision.letterbox import letterbox, scaled
from serving.vision.picture import decode
from tests.support import hostile
from tests.support.pictures import encoded, gradient

FORM: dict[str, Any] = {"input_hw": (64, 96), "stride": 32, "shape": "hug", "decoding": "averaged"}
ELSEWHERE = ("WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF")


@pytest.fixture
def decoding() -> Iterator[Callable[..., Decoding]]:
    """Makes pools whose processes run until the test ends."""
    made: list[Decoding] = []

    def make(**settings: Any) -> Decoding:
        made.append(Decoding(Settings.model_validate(settings), Metrics()))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def running() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture
def children() -> Callable[[], set[int]]:
    """The processes that the test has started: those of tests before it in this process may still run."""
    before = running()
    return lambda: running() - before


def ended(pool: Decoding) -> str:
    lines = pool._metrics.text().decode().splitlines()
    return " ".join(line for line in lines if line.startswith("flywheel_decoders_ended_total{"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", *ELSEWHERE])
def test_same_input_when_a_process_decodes(kind: str, decoding: Callable[..., Decoding]) -> None:
    data = encoded(gradient(), kind)
    pool = decoding(decoders=1)
    picture = read_picture(pool.run("fitted", data, **FORM))
    whole = decode(data)
    place = letterbox(whole.width, whole.height, FORM["input_hw"], shape="hug")
    assert np.array_equal(np.asarray(picture.image), np.asarray(scaled(whole.image, place, "averaged")))
    assert vars(picture) | {"image": None} == vars(whole) | {"image": None}
    assert picture.image.tobytes() == fitted(data, **FORM).data
    assert pool.budget.held == 0


def test_tasks_give_the_same_here_and_there(decoding: Callable[..., Decoding]) -> None:
    pool = decoding(decoders=1)
    data = encoded(gradient(), "TIFF")
    marks = [[[1, 2, 30, 20], "a 0.90", "#e69f00"]]
    for task, arguments in {"drawn": {"marks": marks, "kind": "image/png"}, "hashed": {}, "upright_jpeg": {}}.items():
        assert pool.run(task, data, **arguments) == TASKS[task](data, **arguments)


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_refused_as_before_when_damaged(kind: str, decoding: Callable[..., Decoding]) -> None:
    data = encoded(gradient(), kind)
    pool = decoding(decoders=1)
    with pytest.raises(PictureError, match="expected"):
        pool.run("fitted", data[: len(data) * 2 // 3], **FORM)
    assert pool.run("fitted", data, **FORM).facts["format"] == kind


def test_memory_is_limited_by_the_kernel_when_headers_lie(decoding: Callable[..., Decoding]) -> None:
    pool = decoding(decoders=1)
    data = encoded(Image.new("RGB", (4_000, 4_000)), "TIFF", compression="tiff_deflate")  # takes 64 MB
    job = pool.send(Header(16, 16, 1_000, bounded=False), "fitted", data, **FORM)
    with pytest.raises(TooLargeError, match=r"memory.*expected"):
        job.future.result(300)
    assert pool.run("fitted", encoded(gradient(), "AVIF"), **FORM).facts["format"] == "AVIF"


def test_decoded_when_the_server_has_a_memory_limit_of_its_own(
    children: Callable[[], set[int]], decoding: Callable[..., Decoding]
) -> None:
    pool = decoding(decoders=1)
    usual = encoded(gradient(), "TIFF")
    pool.run("fitted", usual, **FORM)
    (process,) = children()
    resource.prlimit(process, resource.RLIMIT_AS, (8 << 30, 8 << 30))  # as `ulimit -v` leaves it, soft and hard
    for _ in range(2):
        assert pool.run("fitted", usual, **FORM).facts["format"] == "TIFF"
    assert children() == {process}


def test_killed_and_replaced_when_it_takes_too_long(
    children: Callable[[], set[int]], decoding: Callable[..., Decoding]
) -> None:
    pool = decoding(decoders=1, request_seconds=1)
    usual = encoded(gradient(), "TIFF")
    pool.run("fitted", usual, **FORM)
    (process,) = children()
    os.kill(process, signal.SIGSTOP)  # as a decoder that hangs
    start = time.monotonic()
    with pytest.raises(Refused, match="503"):
        pool.run("fitted", usual, **FORM)
    assert time.monotonic() - start < 5
    assert 'reason="time"} 1.0' in ended(pool)
    pool._patience = 30
    assert pool.run("fitted", usual, **FORM).facts["format"] == "TIFF"
    assert children().isdisjoint({process})


def test_cpu_time_ends_a_decoder(decoding: Callable[..., Decoding]) -> None:
    bomb = hostile.jpeg_of_scans(4_000, 6_000)
    pool = decoding(
        decoders=1, max_picture_scans=10_000, max_picture_parts=100_000, decode_seconds=1, request_seconds=300
    )
    with pytest.raises(TooLargeError, match="too much work"):
        pool.run("fitted", bomb, **FORM)
    assert 'reason="cpu"} 1.0' in ended(pool)
    assert pool.budget.held == 0


def test_crash_is_the_pictures_fault_when_a_decoder_dies(
    children: Callable[[], set[int]], decoding: Callable[..., Decoding]
) -> None:
    pool = decoding(decoders=1)
    data = encoded(gradient(), "TIFF")
    pool.run("fitted", data, **FORM)
    (process,) = children()
    os.kill(process, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (process, signal.SIGKILL)).start()
    with pytest.raises(UnreadableError, match="crashed"):
        pool.run("fitted", data, **FORM)
    assert pool.run("fitted", data, **FORM).facts["format"] == "TIFF"


def test_pictures_wait_for_memory_and_never_exceed_it(decoding: Callable[..., Decoding]) -> None:
    data = encoded(Image.new("RGB", (1_000, 1_000)), "WEBP")
    pool = decoding(decoders=3, decode_memory_bytes=40_000_000)  # enough for one
    most = [0]
    taken = pool.budget.take

    def take(count: int, until: float = 0.0) -> bool:
        done = taken(count, until)
        most[0] = max(most[0], pool.budget.held)
        return done

    pool.budget.take = take  # type: ignore[method-assign]
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: pool.run("fitted", data, **FORM), range(12)))
    assert len(replies) == 12
    assert 18_000_000 < most[0] <= 40_000_000
    assert pool.budget.held == 0


def test_too_large_for_the_budget_is_refused_at_once(decoding: Callable[..., Decoding]) -> None:
    pool = decoding(decoders=1, decode_memory_bytes=30_000_000)
    with pytest.raises(TooLargeError, match=r"2000x2000 .* needs 84 MB .* expected at most 30 MB"):
        pool.run("fitted", hostile.webp_of(2_000, 2_000), **FORM)


def test_elsewhere_when_memory_is_taken(decoding: Callable[..., Decoding]) -> None:
    pool = decoding(decoders=1, decode_memory_bytes=100_000_000)
    data = encoded(Image.new("RGB", (1_000, 1_000)), "JPEG")
    with pool.admitted(data):
        assert pool.budget.held == 4_000_000
    assert pool.budget.take(98_000_000)
    with pytest.raises(Elsewhere), pool.admitted(data):
        pytest.fail("there is no memory for it")
    pool.budget.give_back(98_000_000)
    assert pool.budget.held == 0


def test_refused_when_too_many_wait_or_the_server_stops(decoding: Callable[..., Decoding]) -> None:
    pool = decoding(decoders=1, max_waiting=2, decode_memory_bytes=20_000_000)
    data = encoded(gradient(), "TIFF")
    assert pool.budget.take(20_000_000)  # nothing can begin
    jobs = []
    with pytest.raises(Refused, match="wait to be decoded"):
        for _ in range(4):
            with pytest.raises(Elsewhere) as elsewhere, pool.admitted(data):
                pass
            jobs.append(pool.send(elsewhere.value.header, "fitted", data, **FORM))
            time.sleep(0.2)
    start = time.monotonic()
    pool.refuse()
    pool.budget.give_back(20_000_000)
    for job in jobs:
        with pytest.raises(Refused, match="503"):
            job.future.result(10)
    assert time.monotonic() - start < 10


def test_process_ends_with_the_server(children: Callable[[], set[int]], decoding: Callable[..., Decoding]) -> None:
    pool = decoding(decoders=2)
    pool.run("fitted", encoded(gradient(), "TIFF"), **FORM)
    time.sleep(0.5)
    assert children()
    pool.stop()
    assert not children()
