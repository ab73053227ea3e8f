"""A fork of the repository whose cluster.env is filled in, pushed to a remote that is a folder."""

import shutil
from pathlib import Path

import pytest

from tests.support import gitops
from tests.support.projects import git


def make_fork(folder: Path, values: dict[str, str], monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    """Make a clone and its remote, which Git takes for the one at REPO_URL; Git knows no other settings than these.

    `more` are files and folders of the project that the clone has beside gitops/ and .ci/.
    """
    settings = {
        f"url.{folder}/remote.insteadOf": values["REPO_URL"],
        "user.name": "tests",
        "user.email": "t@example.com",
    }
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    remote, clone = folder / "remote", folder / "clone"
    gitops.copy_with(values, clone)
    for name in (".ci", *more):
        source = gitops.PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, clone / name)
    for command in (
        ("init", "-q", "--bare", str(remote)),
        ("init", "-q", "-b", values["DETECTOR_REVISION"]),
        ("remote", "add", "origin", values["REPO_URL"]),
        ("add", "-A"),
        ("commit", "-qm", "filled in"),
    ):
        git(clone, *command)
    push(clone, values["DETECTOR_REVISION"], values["PLATFORM_REVISION"])
    return clone


def push(clone: Path, *revisions: str) -> None:
    """Commit what changed, and push it to branches: by default those of gitops.SAMPLE."""
    git(clone, "commit", "-qam", "changed", "--allow-empty")
    for name in revisions or (gitops.SAMPLE["DETECTOR_REVISION"], gitops.SAMPLE["PLATFORM_REVISION"]):
        git(clone, "push", "-qf", str(clone.parent / "remote"), f"HEAD:refs/heads/{name}")
