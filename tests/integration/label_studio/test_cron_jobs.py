"""The CronJobs' scripts, as they are rendered: the code of one branch works on what another holds."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.label_studio.setup import set_up
from tests.integration.label_studio.test_pull import start
from tests.support import projects
from tests.support.annotating import AIRPLANE, HELICOPTER, Bench
from tests.support.gitops import leaf
from tests.support.projects import IDENTITY, copy_project


def container(name: str) -> dict[str, Any]:
    (job,) = [
        obj for obj in leaf("label-studio/overlays/openshift").of_kind("CronJob") if obj["metadata"]["name"] == name
    ]
    (found,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def run(name: str, source: Path, repository: Path, branch: str) -> subprocess.CompletedProcess[str]:
    """Run a CronJob's script with what its container has, in a folder of its own."""
    found = container(name)
    source.mkdir()
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LABEL_STUDIO_URL", "STORE_URI")}
    secret = {key: os.environ[key] for key in ("LABEL_STUDIO_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    settings = {each["name"]: each["value"].replace("/source", str(source)) for each in found["env"] if "value" in each}
    environment = {
        **kept,
        **secret,
        **settings,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
        "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "REPO_URL": str(repository),
        "BRANCH": branch,
        "PLATFORM_REVISION": "reviewed",
        **{f"GIT_{who}_{what}": "a@example.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    command = [*found["command"], *found["args"]]
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_reviewed_code_works_on_the_branch_when_the_clock_strikes(
    bucket_bench: Bench, project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    copy = copy_project(project, tmp_path / "copy", environment)
    origin = tmp_path / "origin.git"

    git = partial(projects.git, copy, *IDENTITY)
    git("branch", "-M", "reviewed")
    git("switch", "-qc", "trunk")
    # Whoever may push to the branch changes values, and cannot bring code of theirs to where the tokens are.
    (copy / "runner" / "__main__.py").write_text("raise SystemExit('code of the branch')\n")
    (copy / "params.yaml").write_text(bucket_bench.params)
    git("commit", "-qam", "the branch")
    git("clone", "-q", "--bare", str(copy), str(origin))
    set_up(bucket_bench.project)
    pulled = run("labels-pull", tmp_path / "one", origin, "trunk")
    assert pulled.returncode == 0, pulled.stderr
    assert "no pull request: 0 pictures changed, labels.min_new is 20" in pulled.stdout
    pushed = run("captures-push", tmp_path / "two", origin, "trunk")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.startswith("0 captures without a task")
    bucket_bench.set(labels={"min_new": 2})
    (copy / "params.yaml").write_text(bucket_bench.params)
    git("commit", "-qam", "fewer are enough")
    git("push", "-q", str(origin), "trunk")
    start(bucket_bench, tmp_path)
    for name in ("0000.jpg", "0001.jpg"):
        bucket_bench.draw(bucket_bench.task(name)["id"], AIRPLANE, HELICOPTER)
    pulled = run("labels-pull", tmp_path / "three", origin, "trunk")
    assert pulled.returncode == 0, pulled.stderr
    assert "branch labels is pushed" in pulled.stdout and "pull request from it to trunk" in pulled.stdout
    assert git("--git-dir", str(origin), "diff", "--name-only", "trunk", "labels").split() == ["params.yaml"]
