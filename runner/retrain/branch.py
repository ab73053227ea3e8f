"""The branch that retrains follow: a clone of it, and whether a commit is still the newest that changes a training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import GitError
from runner.github import credentials, git
from runner.release.contents import SOURCES


@contextmanager
def cloned(url: str, branch: str) -> Iterator[Path]:
    """Give a clone of a branch with its history, until the block ends.

    Raises:
        GitError: it cannot be reached, or there is no such branch.
    """
    with tempfile.TemporaryDirectory(prefix="flywheel-clone-") as folder:
        clone = Path(folder, "repository")
        options = ("--quiet", "--single-branch", "--branch", branch)
        git(Path(folder), "clone", *options, url, str(clone), environment=credentials(url))
        yield clone


def newer(clone: Path, revision: str) -> str:
    """Say which later commit of the branch changes a training's inputs; empty when `revision` is still the newest.

    Args:
        clone: of the branch, with its history.
        revision: a commit's id.
    Raises:
        GitError: the clone cannot be read.
    """
    try:
        git(clone, "merge-base", "--is-ancestor", revision, "HEAD")
    except GitError:
        return f"{revision[:12]} is no longer on the branch"
    later = git(clone, "log", "--format=%h %s", f"{revision}..HEAD", "--", *SOURCES).splitlines()
    return f"superseded by {later[0]}" if later else ""


def head_of(url: str, branch: str) -> str:
    """Return the commit that a branch is at.

    Raises:
        GitError: it cannot be reached, or there is no such branch.
    """
    found = git(Path.cwd(), "ls-remote", url, f"refs/heads/{branch}", environment=credentials(url)).split()
    if not found:
        raise GitError(f"{url}: there is no branch {branch}; correct DETECTOR_REVISION in gitops/cluster/cluster.env")
    return found[0]
