"""Programs of others: a client that openapi-python-client makes of /openapi.json, and Prometheus' check of metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import program
from tests.support.servers import Server, running
from tests.support.shades import film, shade

CALLS = """
import io, json, sys, time
from client import AuthenticatedClient
from client.api.detect import (
    cancel_job, detect, detect_batch, detect_image, detect_video, job_result, job_status, video_job
)
from client.api.feedback import feedback
from client.api.operate import healthz, metrics, model, readyz
from client.models import (
    DetectBatchBody, DetectBody, DetectImageBody, DetectVideoBody, FeedbackBody, FeedbackBodyVerdict, VideoJobState,
    VideoJobBody
)
from client.types import File

def file(path):
    return File(io.BytesIO(open(path, "rb").read()), path)

url, picture, video = sys.argv[1:]
client = AuthenticatedClient(url, "geheim", raise_on_unexpected_status=True)
found = detect.sync(client=client, body=DetectBody(file(picture)), confidence=0.1, classes=["helicopter"])
drawn = detect_image.sync(client=client, body=DetectImageBody(file(picture)))
batch = detect_batch.sync(client=client, body=DetectBatchBody([file(picture), file(video)]))
frames = detect_video.sync(client=client, body=DetectVideoBody(file(video)))
job = video_job.sync(client=client, body=VideoJobBody(file(video)))
while job.state in (VideoJobState.WAITING, VideoJobState.RUNNING):
    time.sleep(0.1)
    job = job_status.sync(job.id, client=client)
later_frames = job_result.sync(job.id, client=client)
cancelled = cancel_job.sync_detailed(job.id, client=client)
plain = detect.sync(client=client, body=DetectBody(file(picture)))
said = feedback.sync(client=client, body=FeedbackBody(plain.request_id, FeedbackBodyVerdict.MISSED))
later = feedback.sync(client=client, body=FeedbackBody("0" * 32, FeedbackBodyVerdict.WRONG, comment="x"))
print(json.dumps({
    "detect": found.counts.to_dict(),
    "image": drawn.payload.read()[:2].hex(),
    "batch": [each.status for each in batch.results],
    "video": len(frames.frames),
    "job": [job.state, later_frames.frames == frames.frames, cancelled.status_code],
    "feedback": [said.picture, later.picture],
    "model": model.sync(client=client).classes,
    "ready": [readyz.sync(client=client).status, healthz.sync(client=client).status],
    "metrics": "flywheel_ready 1.0" in metrics.sync(client=client),
    "refused": detect.sync(client=client, body=DetectBody(file(video))).error[:11],
}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, bright_model: Path) -> dict[str, Any]:
    """What the client was answered, call by call."""
    folder = tmp_path_factory.mktemp("client")
    store = str(folder / "store")
    with running(folder, MODEL_URI=str(bright_model), API_KEY="geheim", CAPTURE_URI=store) as server:
        return call(server, folder)


def call(server: Server, folder: Path) -> dict[str, Any]:
    (folder / "openapi.json").write_bytes(server.get("/openapi.json").body)
    command = ("-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it formats with ruff
    made = subprocess.run(
        [sys.executable, *command, "--output-path", "client", "--fail-on-warning"],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr  # a warning: it leaves something out
    (folder / "a.png").write_bytes(shade(204))
    (folder / "a.mp4").write_bytes(film([0] * 12))
    arguments = [f"http://127.0.0.1:{server.port}", "a.png", "a.mp4"]
    done = subprocess.run(
        [sys.executable, "-c", CALLS, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"exposition": server.get("/metrics", **{"X-API-Key": "geheim"}).body}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("detect", {"helicopter": 1}),
        ("image", "ffd8"),
        ("batch", [200, 415]),
        ("video", 2),
        ("job", ["done", True, 204]),
        ("feedback", ["kept", "needed"]),
        ("model", ["airplane", "helicopter"]),
        ("ready", ["ready", "alive"]),
        ("metrics", True),
        ("refused", "not a pictu"),
    ],
)
def test_answer_read_by_a_client_made_of_the_schema(name: str, expected: Any, answers: dict[str, Any]) -> None:
    assert answers[name] == expected


def test_metrics_named_as_prometheus_wants_when_all_were_used(answers: dict[str, Any]) -> None:
    promtool = program("promtool", "it comes with Debian's package prometheus, and with Prometheus itself")
    check = [promtool, "check", "metrics", "--extended"]
    done = subprocess.run(check, input=answers["exposition"], capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert b"flywheel_request_seconds" in done.stdout  # it read them
