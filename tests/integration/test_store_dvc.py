"""DVC's commands, its own and those of Tasks, on MinIO as the store's user of trainings, who may not read all of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store.users import policy_of
from tests.support.s3 import S3

COMMAND = "mkdir -p out && (printenv SAID || echo x) > out/f"
STAGE = f"stages:\n  a:\n    cmd: {COMMAND}\n    deps: [params.yaml]\n    outs: [out]\n"
CONFIG = "[core]\n    no_scm = true\n    remote = store\n"
TASK = "import sys; from runner.retrain.tasks import _dvc; _dvc(*sys.argv[1:])"
Run = Callable[..., str]


@pytest.fixture
def run(minio: S3, tmp_path: Path) -> Run:
    """Runs a module, or DVC as a Task does (`task`), in a clone, as a trainer of the store; returns its output."""
    environment = minio.bucket()
    bucket, user = environment["STORE_URI"].removeprefix("s3://"), f"trainer-{os.getpid()}"
    minio.admin().policy_add(user, policy=policy_of("trainer", bucket))
    minio.admin().user_add(user, "secret-of-it")
    minio.admin().policy_set(user, user=user)
    environment |= {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": "secret-of-it"}
    settings = os.environ | environment | {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "DVC_NO_ANALYTICS": "1"}

    def run(clone: str, module: str, *arguments: str, fails: bool = False, **extra: str) -> str:
        folder = tmp_path / clone
        if not folder.exists():
            (folder / ".dvc").mkdir(parents=True)
            (folder / ".dvc/config").write_text(CONFIG)
            (folder / "params.yaml").write_text("a: 1\n")
            (folder / "dvc.yaml").write_text(STAGE)
            run(clone, "runner", "store", "use")
        command = [sys.executable, *(("-c", TASK) if module == "task" else ("-m", module)), *arguments]
        done = subprocess.run(command, cwd=folder, env=settings | extra, capture_output=True, text=True, check=False)
        assert bool(done.returncode) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_dvc_works_as_trainer_and_refuses_other_bytes_under_a_digest(run: Run, minio: S3, tmp_path: Path) -> None:
    run("one", "dvc", "repro")
    run("one", "dvc", "push", "--run-cache")
    assert "is cached" in run("two", "dvc", "repro", "--pull")
    assert (tmp_path / "two/out/f").read_text() == "x\n"
    bucket = bucket_of(tmp_path / "one")
    (key,) = (key for key in keys(minio, bucket, "dvc/files/") if not key.endswith(".dir"))
    minio.put(bucket, key, b"other")
    run("three", "dvc", "repro", "--pull")  # computes it again
    assert (tmp_path / "three/out/f").read_text() == "x\n"


def test_a_task_fetches_and_sends_the_entries_of_its_own_stages(run: Run, minio: S3, tmp_path: Path) -> None:
    run("one", "task", "repro")
    run("one", "task", "push", "--run-cache")
    bucket = bucket_of(tmp_path / "one")
    (entry,) = keys(minio, bucket, "dvc/runs/")
    for number in range(20):  # of other runs
        minio.put(
            bucket, f"dvc/runs/{number:02}/{number:064}/{number:064}", minio.client().get_object(bucket, entry).read()
        )
    run("later", "task", "repro", SAID="y")  # same inputs, another result
    run("later", "task", "push", "--run-cache")
    assert len(keys(minio, bucket, "dvc/runs/")) == 22

    assert "is cached" in run("two", "task", "repro", "--pull")
    assert (tmp_path / "two/out/f").read_text() == "y\n"
    assert len([file for file in (tmp_path / "two/.dvc/cache/runs").rglob("*") if file.is_file()]) == 2
    run("two", "task", "push", "--run-cache")
    assert len(keys(minio, bucket, "dvc/runs/")) == 22


def test_a_task_fails_when_its_store_is_away(run: Run, tmp_path: Path) -> None:
    run("one", "dvc", "remote", "modify", "--local", "store", "endpointurl", "http://127.0.0.1:9")
    assert "failed with exit status" in run("one", "task", "repro", "--pull", fails=True)
    assert not (tmp_path / "one/out").exists()


def bucket_of(clone: Path) -> str:
    return (clone / ".dvc/config.local").read_text().partition("url = s3://")[2].partition("/")[0]


def keys(minio: S3, bucket: str, under: str) -> list[str]:
    return [str(item.object_name) for item in minio.client().list_objects(bucket, under, recursive=True)]
