"""Videos whose sender does not wait: by one server, by two beside each other, and by one that is stopped."""

import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.processes import stop, until
from tests.support.servers import Answer, Server, running
from tests.support.shades import film, shade

VIDEO = film([0] * 10 + [250] * 15)
LONG = film([0] * 5_000)
ENDED = ("done", "failed", "cancelled")


def begin(server: Server, data: bytes, query: str = "", **headers: str) -> str:
    """Send a video; return the path of its job."""
    answer = server.post(f"/jobs/video{query}", data, **headers)
    assert (answer.status, answer.json()["state"]) == (202, "waiting"), answer.body
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}" and int(answer.headers["retry-after"]) > 0
    return answer.headers["location"]


def ended(server: Server, job: str, **headers: str) -> dict[str, Any]:
    """What its status says in the end."""

    def found() -> dict[str, Any] | None:
        status: dict[str, Any] = server.get(job, **headers).json()
        return status if status["state"] in ENDED else None

    return until(found) or {}


def without_ids(answer: Answer) -> dict[str, Any]:
    return {key: value for key, value in answer.json().items() if key != "request_id"}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, bright_model: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers of one environment."""
    folder = tmp_path_factory.mktemp("jobs")
    settings = {"MODEL_URI": str(bright_model), "CAPTURE_URI": str(folder / "store"), "CAPTURE_STRATEGIES": "random:0"}
    settings |= {"REPLICAS": "2", "API_KEY": "geheim", "MAX_JOBS": "2", "MAX_JOB_FRAMES": "5000"}
    folders = [tmp_path_factory.mktemp(name) for name in "ab"]
    with running(folders[0], **settings) as first, running(folders[1], **settings) as second:
        yield first, second


KEY = {"X-API-Key": "geheim"}


def test_same_answer_at_any_server_when_nobody_waited_for_it(two: tuple[Server, Server]) -> None:
    first, second = two
    job = begin(first, VIDEO, "?every=5&tracks=true", **KEY)
    assert ended(second, job, **KEY)["frames"] == 5
    for server in two:
        result = server.get(f"{job}/result", **KEY)
        assert (result.status, result.headers["content-type"]) == (200, "application/json")
        assert without_ids(result) == without_ids(first.post("/detect/video?every=5&tracks=true", VIDEO, **KEY))
        for path in (job, f"{job}/result"):
            assert server.get(path).status == 401
    drawn = begin(second, VIDEO, "?drawn=true", **KEY)
    assert ended(first, drawn, **KEY)["state"] == "done"
    result = first.get(f"{drawn}/result", **KEY)
    with av.open(io.BytesIO(result.body), "r") as source:
        assert (result.headers["content-type"], len(list(source.decode(video=0)))) == ("video/mp4", 25)
    assert second.ask("DELETE", drawn, None, KEY).status == 204
    for server in two:
        assert server.get(drawn, **KEY).json()["state"] == "cancelled"
        assert server.get(f"{drawn}/result", **KEY).status == 409
    assert b'flywheel_jobs_total{state="done"} 1.0' in first.get("/metrics", **KEY).body


def test_refused_or_failed_with_a_reason_when_it_cannot_be_done(two: tuple[Server, Server]) -> None:
    first, second = two
    failed = ended(second, begin(first, shade(1), **KEY), **KEY)
    assert failed["state"] == "failed" and "expected an mp4" in failed["error"]
    assert first.post("/jobs/video?classes=boat", VIDEO, **KEY).status == 422
    assert first.post("/jobs/video", VIDEO).status == 401
    ids = ("0" * 31, "0" * 33, "G" * 32, "..%2f..%2fplanes", "0" * 30 + "%2fa", "0" * 32 + "/", "../" + "0" * 32)
    for name in (*ids, "0" * 32):
        for path in (f"/jobs/{name}", f"/jobs/{name}/result"):
            assert first.get(path, **KEY).status in (404, 422), path
        assert first.ask("DELETE", f"/jobs/{name}", None, KEY).status in (404, 422), name


def test_one_after_the_other_and_cancelled_at_another_server_when_they_are_long(two: tuple[Server, Server]) -> None:
    first, second = two
    jobs = [begin(first, LONG, "?every=1", **KEY) for _ in range(2)]
    until(lambda: first.get(jobs[0], **KEY).json()["state"] == "running")
    assert first.get(jobs[1], **KEY).json()["state"] == "waiting"
    full = first.post("/jobs/video", VIDEO, **KEY)
    assert (full.status, full.headers["retry-after"]) == (429, "30") and "2 videos wait" in full.json()["error"]
    busy = first.post("/detect/video", VIDEO, **KEY)
    assert busy.status == 503 and "/jobs/video" in busy.json()["error"]
    assert first.get(f"{jobs[1]}/result", **KEY).status == 409
    assert second.ask("DELETE", jobs[1], None, KEY).status == 204  # it waits at the first
    assert second.get(jobs[1], **KEY).json()["state"] == "cancelled"
    assert first.ask("DELETE", jobs[0], None, KEY).status == 204
    assert [ended(first, job, **KEY)["state"] for job in jobs] == ["cancelled"] * 2
    assert ended(first, begin(first, VIDEO, **KEY), **KEY)["state"] == "done"


def test_status_says_so_when_the_server_is_stopped_during_a_job(two: tuple[Server, Server]) -> None:
    first, second = two
    jobs = [begin(first, LONG, "?every=1", **KEY) for _ in range(2)]
    until(lambda: first.get(jobs[0], **KEY).json()["state"] == "running")
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(60) in (0, -signal.SIGTERM)
    for job in jobs:
        found = second.get(job, **KEY).json()
        assert found["state"] == "failed" and "stopped" in found["error"]
        assert second.get(f"{job}/result", **KEY).status == 409


def test_kept_in_memory_when_there_is_one_server_and_no_store(tmp_path: Path, bright_model: Path) -> None:
    settings = {"MODEL_URI": str(bright_model), "API_KEY": "geheim", "API_KEY_FOR": "feedback"}
    with running(tmp_path, **settings, JOB_KEEP_SECONDS="3") as server:
        job = begin(server, VIDEO)
        assert ended(server, job)["state"] == "done"
        assert without_ids(server.get(f"{job}/result")) == without_ids(server.post("/detect/video", VIDEO))
        until(lambda: server.get(f"{job}/result").status == 404)  # gone after a time
        assert not list((tmp_path / "tmp").iterdir())
        assert b"flywheel_held_bytes 0.0" in server.get("/metrics", **KEY).body
        stop(server.process)
    with running(tmp_path, **settings, REPLICAS="2") as server:
        refused = server.post("/jobs/video", VIDEO)
        assert refused.status == 501 and "CAPTURE_URI" in refused.json()["error"]
        assert b'flywheel_rejects_total{reason="no_store"} 1.0' in server.get("/metrics", **KEY).body
