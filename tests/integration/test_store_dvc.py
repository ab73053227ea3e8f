"""DVC's own commands on MinIO as the store's user of trainings, who lists and reads a part of the bucket alone."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store.users import policy_of
from tests.support.s3 import S3

STAGE = "stages:\n  a:\n    cmd: mkdir -p out && echo x > out/f\n    deps: [params.yaml]\n    outs: [out]\n"
CONFIG = "[core]\n    no_scm = true\n    remote = store\n"
Run = Callable[..., str]


@pytest.fixture
def run(minio: S3, tmp_path: Path) -> Run:
    """Runs a command in a new clone, or that of a name, as a user with a trainer's policy; returns what it prints."""
    environment = minio.bucket()
    bucket, user = environment["STORE_URI"].removeprefix("s3://"), f"trainer-{os.getpid()}"
    minio.admin().policy_add(user, policy=policy_of("trainer", bucket))
    minio.admin().user_add(user, "secret-of-it")
    minio.admin().policy_set(user, user=user)
    environment |= {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": "secret-of-it"}
    settings = os.environ | environment | {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "DVC_NO_ANALYTICS": "1"}

    def run(clone: str, *command: str, fails: bool = False) -> str:
        folder = tmp_path / clone
        if not folder.exists():
            (folder / ".dvc").mkdir(parents=True)
            (folder / ".dvc/config").write_text(CONFIG)
            (folder / "params.yaml").write_text("a: 1\n")
            (folder / "dvc.yaml").write_text(STAGE)
            run(clone, "runner", "store", "use")
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, env=settings, capture_output=True, text=True, check=False
        )
        assert bool(done.returncode) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_dvc_works_as_trainer_and_refuses_other_bytes_under_a_digest(run: Run, minio: S3, tmp_path: Path) -> None:
    run("one", "dvc", "repro")
    run("one", "dvc", "push", "--run-cache")
    assert "is cached" in run("two", "dvc", "repro", "--pull")
    assert (tmp_path / "two/out/f").read_text() == "x\n"
    bucket = (tmp_path / "one/.dvc/config.local").read_text().partition("url = s3://")[2].partition("/")[0]
    keys = [str(item.object_name) for item in minio.client().list_objects(bucket, "dvc/files/", recursive=True)]
    (key,) = (key for key in keys if not key.endswith(".dir"))
    minio.put(bucket, key, b"other")
    run("three", "dvc", "repro", "--pull")  # computes it again
    assert (tmp_path / "three/out/f").read_text() == "x\n"
