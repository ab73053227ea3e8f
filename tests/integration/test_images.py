"""Our images, really built, and run as a cluster runs them: any user id, a root that nobody can write to."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.s3 import free_port

pytestmark = pytest.mark.slow
GO = Path("/usr/local/go")


@pytest.fixture(scope="module", autouse=True)
def base() -> None:
    images.require()


def digest(project: Path) -> str:
    """What the label of the runner's image says."""
    pins = [(project / name).read_bytes() for name in ("constraints.txt", "constraints-train.txt")]
    return hashlib.sha256(b"".join(pins)).hexdigest()


@pytest.fixture(scope="module")
def runner(project: Path) -> Iterator[images.Container]:
    """Without PyTorch, which takes minutes: what it adds to this is a longer list of packages."""
    given: dict[str, Any] = {"BASE": images.BASE, "EXTRAS": "runner", "CONSTRAINTS": digest(project)}
    image = images.build(images.containerfile("runner"), project, "flywheel-test-runner", **given)
    assert images.labels(image)["flywheel.constraints"] == digest(project)
    container = images.Container(image)
    yield container
    container.remove()


def test_commands_run_from_a_clone_when_the_user_is_any(
    runner: images.Container, project: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    subprocess.run(["git", "clone", "--quiet", "--bare", project, tmp_path / "origin"], check=True)
    script = "cd /work; git clone --quiet --depth 1 file:///origin flywheel; cd flywheel; python3 -m runner compose"
    (work / ".gitconfig").write_text("[safe]\ndirectory = *\n")  # the clone's source is another user's here
    volumes = {work: "/work", tmp_path / "origin": "/origin"}
    status, printed = runner.run("bash", "-euc", script, volumes=volumes, HOME="/work")
    assert status == 0, printed
    assert (work / "flywheel/artifacts/config/train.yaml").is_file()
    assert (work / "flywheel/params.yaml").stat().st_uid == 1000650000


def test_its_constraints_known_when_the_image_runs(runner: images.Container, project: Path) -> None:
    status, printed = runner.run("sh", "-c", 'cat "$FLYWHEEL_CONSTRAINTS_FILE"; touch /x')
    assert printed.splitlines()[0] == digest(project)
    assert status != 0
    assert "Read-only file system" in printed


def test_no_image_when_the_constraints_are_others(project: Path) -> None:
    given: dict[str, Any] = {"BASE": images.BASE, "EXTRAS": "runner", "CONSTRAINTS": "0" * 64}
    with pytest.raises(RuntimeError, match=r"CONSTRAINTS is 0000.*but the digest of the files is"):
        images.build(images.containerfile("runner"), project, "flywheel-test-refused", **given)


def test_every_package_found_when_the_whole_image_is_resolved(project: Path, tmp_path: Path) -> None:
    extras = [f"--extra={name}" for name in ("runner", "train", "labels")]
    pins = [f"--constraint={name}" for name in ("constraints.txt", "constraints-train.txt")]
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", tmp_path / "venv"], check=True)
    command = [str(uv), "pip", "install", "--dry-run", f"--python={tmp_path / 'venv'}", "--requirement=pyproject.toml"]
    done = subprocess.run([*command, *extras, *pins], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    would = {line.split()[1].partition("==")[0] for line in done.stderr.splitlines() if line.startswith(" + ")}
    assert {"torch", "ultralytics", "dvc", "minio", "label-studio-sdk"} <= would
    assert "opencv-python" not in would


@pytest.fixture(scope="module")
def minio(project: Path) -> Iterator[images.Container]:
    if not GO.is_dir():
        pytest.skip(f"{GO} is missing: MinIO's image is built with it")
    cached = [
        subprocess.run(["go", "env", name], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("GOMODCACHE", "GOCACHE")
    ]
    volumes = [f"{GO}:{GO}:ro", f"{cached[0]}:/root/go/pkg/mod", f"{cached[1]}:/root/.cache/go-build"]
    image = images.build(
        images.containerfile("gitops/minio"),
        project / "gitops/minio",
        "flywheel-test-minio",
        volumes=volumes,
        GO=images.BASE,
    )
    container = images.Container(image)
    yield container
    container.remove()


def test_minio_answers_when_the_user_is_any(minio: images.Container, tmp_path: Path) -> None:
    assert "GNU AFFERO" in (minio.root / "licenses/LICENSE").read_text()
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    port = free_port()
    secrets = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": os.urandom(16).hex(), "HOME": "/"}
    command = [*minio.entry_point, "server", "--address", f"127.0.0.1:{port}", "/data"]
    process = minio.start(*command, volumes={data: "/data"}, **secrets)
    answered(process, f"http://127.0.0.1:{port}/minio/health/ready")
    assert (data / ".minio.sys").stat().st_uid == 1000650000


@pytest.fixture(scope="module")
def serving(project: Path) -> Iterator[images.Container]:
    given: dict[str, Any] = {"BASE": images.BASE, "EXTRAS": "serve"}
    container = images.Container(
        images.build(images.containerfile("serving"), project, "flywheel-test-serving", **given)
    )
    yield container
    container.remove()


def test_server_ready_when_the_user_is_any(serving: images.Container, bright_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    model.chmod(0o755)  # pytest's own folders are for their owner alone
    shutil.copy(bright_model, model / "model.onnx")
    port = free_port()
    command = [word if word != "8080" else str(port) for word in serving.command]
    command[command.index("0.0.0.0")] = "127.0.0.1"
    process = serving.start(*command, volumes={model: "/model"}, MODEL_URI="/model/model.onnx", DRAIN_SECONDS="0")
    answered(process, f"http://127.0.0.1:{port}/readyz")
    status, printed = serving.run("python3", "-c", "import torch")
    assert status == 1
    assert "No module named 'torch'" in printed


def answered(process: subprocess.Popen[str], url: str, seconds: float = 60) -> None:
    """Wait for an answer, then end the process."""
    end = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < end:
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
    finally:
        process.terminate()
        printed, _ = process.communicate(timeout=30)
    raise AssertionError(printed)
