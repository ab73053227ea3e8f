"""The CronJobs' scripts, as they are rendered: the code of one branch works on what another holds."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.label_studio.test_pull import start
from tests.support import projects
from tests.support.annotating import AIRPLANE, HELICOPTER, Bench
from tests.support.gitops import leaf
from tests.support.projects import IDENTITY, copy_project

TOKENS = {"READ_TOKEN", "FORGE_TOKEN", "LABEL_STUDIO_API_KEY"}


def containers(name: str) -> list[dict[str, Any]]:
    """The containers of a CronJob's Pod, in the order in which they run."""
    jobs = leaf("label-studio/overlays/openshift").of_kind("CronJob")
    (job,) = (each for each in jobs if each["metadata"]["name"] == name)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def run(name: str, folder: Path, repository: Path, branch: str, **changes: str) -> str:
    """Run a CronJob's containers, each with what it has, its volumes in a folder; return what they print."""
    folder.mkdir()
    said = ""
    for each in containers(name):
        for mount in each["volumeMounts"]:
            (folder / mount["mountPath"].strip("/")).mkdir(parents=True, exist_ok=True)
        environment = {key: os.environ[key] for key in ("STORE_URI", "AWS_ENDPOINT_URL")}
        if any("secretRef" in source for source in each["envFrom"]):
            environment |= {key: os.environ[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        given = {one["name"]: one.get("value", os.environ.get(one["name"], "")) for one in each["env"]}
        environment |= {key: in_folder(value, folder) for key, value in given.items() if value or key not in TOKENS}
        environment |= {
            **{"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "REPO_URL": str(repository)},
            **{"BRANCH": branch, "PLATFORM_REVISION": "reviewed", "LABEL_STUDIO_URL": os.environ["LABEL_STUDIO_URL"]},
            **{
                f"GIT_{who}_{what}": "a@example.invalid"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        environment |= changes
        command = [in_folder(text, folder) for text in [*each["command"], *each["args"]]]
        where = in_folder(each["workingDir"], folder)
        for mount in each["volumeMounts"]:
            read_only(folder / mount["mountPath"].strip("/"), is_so=mount.get("readOnly", False))
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    return said


def in_folder(text: str, folder: Path) -> str:
    return re.sub(r"(?<![\w.])/(source|work|own)\b", rf"{folder}/\1", text)


def read_only(folder: Path, *, is_so: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222 if is_so else path.stat().st_mode | 0o200)


def test_what_decodes_pictures_has_no_token_of_git() -> None:
    for name in ("labels-pull", "captures-push"):
        tokens = {each["name"]: TOKENS & {one["name"] for one in each["env"]} for each in containers(name)}
        writable = {
            each["name"]: [m["name"] for m in each["volumeMounts"] if not m.get("readOnly")]
            for each in containers(name)
        }
        decodes = "dataset" if name == "labels-pull" else "captures"
        assert tokens.pop(decodes) == {"LABEL_STUDIO_API_KEY"} and writable.pop(decodes) == ["work"]
        assert tokens == {"clone": {"READ_TOKEN"}} | ({"propose": {"FORGE_TOKEN"}} if name == "labels-pull" else {})
        assert writable == {"clone": ["source"]} | ({"propose": ["own"]} if name == "labels-pull" else {})


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
    hook = {"LABEL_STUDIO_WEBHOOK_URL": "http://127.0.0.1:9/labels"}  # Label Studio resolves the name at once
    made = run("labels-setup", tmp_path / "zero", origin, "trunk", **hook)
    assert f"+ project {bucket_bench.title}" in made and "+ storage" in made and "+ webhook http://127.0.0.1:9" in made
    assert "nothing to change" in run("labels-setup", tmp_path / "again", origin, "trunk", **hook)
    pulled = run("labels-pull", tmp_path / "one", origin, "trunk")
    assert "no pull request: 0 pictures changed, labels.min_new is 20" in pulled
    assert "nothing to propose" in pulled
    pushed = run("captures-push", tmp_path / "two", origin, "trunk")
    assert pushed.startswith("0 captures without a task")
    bucket_bench.set(labels={"min_new": 2})
    (copy / "params.yaml").write_text(bucket_bench.params)
    git("commit", "-qam", "fewer are enough")
    git("push", "-q", str(origin), "trunk")
    start(bucket_bench, tmp_path)
    for name in ("0000.jpg", "0001.jpg"):
        bucket_bench.draw(bucket_bench.task(name)["id"], AIRPLANE, HELICOPTER)
    pulled = run("labels-pull", tmp_path / "three", origin, "trunk")
    assert "branch labels is pushed" in pulled and "pull request from it to trunk" in pulled
    assert git("--git-dir", str(origin), "diff", "--name-only", "trunk", "labels").split() == ["params.yaml"]
