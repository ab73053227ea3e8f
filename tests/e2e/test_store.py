"""DVC's remote in the same bucket: what one clone pushed, another does not compute again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.stages.registry import STAGES
from tests.support.projects import IDENTITY, Run
from tests.support.s3 import NAMES, S3, serving_s3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=NAMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Each kind of server; MinIO with TLS and a certificate of its own."""
    with serving_s3(request.param, tmp_path_factory.mktemp(request.param)) as started:
        if started.name == "minio":
            started.stop()
            started.certify()
            started.start()
        yield started


@pytest.fixture(scope="module")
def pushed(
    server: S3, trained: Path, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A trained and committed project whose run is in a store, and the environment of the store's user `runner`."""
    folder = tmp_path_factory.mktemp("pushed")
    project = Path(shutil.copytree(trained, folder / "flywheel", symlinks=True))
    (folder / "users" / "runner").mkdir(parents=True)
    user = {"AWS_ACCESS_KEY_ID": "runner", "AWS_SECRET_ACCESS_KEY": "nur-ein-versuch"}
    for name, value in user.items():
        (folder / "users" / "runner" / name).write_text(value)
    environment = server.environment("flyingthings")
    made = run("python", "-m", "runner", "store", "init", cwd=project, **environment, STORE_USERS=str(folder / "users"))
    assert made.returncode == 0, made.stderr
    if server.name == "minio":
        environment |= user
    for command in (["python", "-m", "runner", "store", "use"], ["dvc", "push", "--run-cache"]):
        done = run(*command, cwd=project, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    subprocess.run(["git", *IDENTITY, "commit", "-qm", "trained"], cwd=project, check=True)
    return project, environment


@pytest.mark.parametrize("without", ["nothing", "dvc.lock"])
def test_nothing_that_was_pushed_runs_again_when_a_clone_repeats_it(
    pushed: tuple[Path, dict[str, str]], run: Run, tmp_path: Path, without: str
) -> None:
    project, environment = pushed
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", project, clone], check=True)
    (clone / without).unlink(missing_ok=True)
    assert run("python", "-m", "runner", "store", "use", cwd=clone, **environment).returncode == 0
    done = run("dvc", "repro", "--pull", cwd=clone, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'fetch':"]  # its output is not pushed: the version is in the store already
    for stage in STAGES.values():
        for output in stage.outputs:
            files = sorted(path for path in (project / "artifacts" / output).rglob("*") if path.is_file())
            assert files and all(
                (clone / file.relative_to(project)).read_bytes() == file.read_bytes() for file in files
            ), output
    assert run("git", "status", "--porcelain", cwd=clone).stdout == ""
    assert "up to date" in run("dvc", "status", cwd=clone, **environment).stdout
