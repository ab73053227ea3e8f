import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.stages.registry import STAGES
from tests.e2e.conftest import digests
from tests.support.projects import IDENTITY, Run
from tests.support.s3 import S3, serving_s3
from tests.support.trees import write_tree

pytestmark = pytest.mark.slow
USER = {"AWS_ACCESS_KEY_ID": "runner", "AWS_SECRET_ACCESS_KEY": "nur-ein-versuch"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """MinIO with TLS and a certificate of its own."""
    with serving_s3("minio", tmp_path_factory.mktemp("minio"), tls=[]) as started:
        yield started


@pytest.fixture(scope="module")
def pushed(
    server: S3, trained: Path, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A trained and committed project whose run is in a store, and the environment of the store's user `runner`."""
    folder = tmp_path_factory.mktemp("pushed")
    project = Path(shutil.copytree(trained, folder / "flywheel", symlinks=True))
    write_tree(folder / "users/runner", USER)
    root = server.environment("flyingthings")
    made = run("python", "-m", "runner", "store", "init", cwd=project, **root, STORE_USERS=str(folder / "users"))
    assert made.returncode == 0, made.stderr
    environment = root | USER
    for command in (["python", "-m", "runner", "store", "use"], ["dvc", "push", "--run-cache"]):
        done = run(*command, cwd=project, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
    for command in (["add", "-A"], [*IDENTITY, "commit", "-qm", "trained"]):
        subprocess.run(["git", *command], cwd=project, check=True)
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
    assert "Running stage" not in done.stdout
    for stage in STAGES:
        assert digests(clone, stage) == digests(project, stage)
    assert run("git", "status", "--porcelain", cwd=clone).stdout == ""
    assert "up to date" in run("dvc", "status", cwd=clone, **environment).stdout


def test_every_object_comes_back_when_a_backup_is_restored(
    server: S3, pushed: tuple[Path, dict[str, str]], project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The commands are those of docs/backups.md; a bucket of its own stands for the fresh installation."""
    text = (project / "docs/backups.md").read_text(encoding="utf-8").partition("## By hand")[2]
    lines = [line.strip() for line in text.partition("database")[0].splitlines() if line.startswith("    ")]
    saving, restoring = (
        next(number for number, line in enumerate(lines) if line.startswith(f"rclone copy --metadata {source}"))
        for source in ("store:", "backup/")
    )
    _, store = pushed
    bucket, root = store["STORE_URI"].removeprefix("s3://"), server.client()
    server.put(bucket, "datasets/kept/ä b.zip", b"x", sha256="0" * 64)
    root.make_bucket("restored")
    save, restore = lines[: saving + 1], [*lines[:saving], lines[restoring]]
    for commands, keys in ((save, store), (restore, server.environment("restored"))):
        script = "\n".join(commands).replace(f"backup/{bucket} store:{bucket}", f"backup/{bucket} store:restored")
        done = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, env=environment | keys, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def found(name: str) -> dict[str, tuple[object, ...]]:
        stats = [root.stat_object(name, str(item.object_name)) for item in root.list_objects(name, recursive=True)]
        return {str(it.object_name): (it.size, (it.metadata or {}).get("x-amz-meta-sha256")) for it in stats}

    assert found("restored") == found(bucket)
    assert found(bucket)["datasets/kept/ä b.zip"] == (1, "0" * 64)
