"""The branch that retrains follow: clone it, check it for newer commits."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import GitError
from runner.forge.forges import BOT, bot_of
from runner.forge.git import credentials, git
from runner.pipeline.sources import sources

LONGEST = 300  # characters of a Task's result; all results share 4 KiB


@contextmanager
def cloned(url: str, branch: str, *, commits: bool = False) -> Iterator[Path]:
    """Give a clone of a branch with its history until the block ends; `commits`: for commits by the token's account.

    Links are files in it, with the path that they lead to: whoever may push a branch must not choose which files of the
    process are read and written.
    """
    name, email = bot_of(url) if commits else BOT
    with tempfile.TemporaryDirectory(prefix="flywheel-clone-") as folder:
        clone = Path(folder, "repository")
        settings = ("core.symlinks=false", f"user.name={name}", f"user.email={email}")
        options = ("--quiet", "--single-branch", "--branch", branch, *(f"--config={each}" for each in settings))
        git(Path(folder), "clone", *options, url, str(clone), environment=credentials(url))
        yield clone


def newer(clone: Path, revision: str) -> str:
    """Return the later commit of the branch that changes a training input, as text; empty when there is none."""
    try:
        git(clone, "merge-base", "--is-ancestor", revision, "HEAD")
    except GitError:
        return f"{revision[:12]} is no longer on the branch"
    later = changes(clone, f"{revision}..HEAD")
    return f"superseded by {later[0]}"[:LONGEST] if later else ""


def changes(clone: Path, commits: str) -> list[str]:
    """Return the commits of a range that change a training input, newest first: id and subject."""
    return git(clone, "--literal-pathspecs", "log", "--format=%h %s", commits, "--", *sources(clone)).splitlines()


def newer_on(url: str, branch: str, revision: str) -> str:
    """As `newer`, for a branch on a server."""
    with cloned(url, branch) as clone:
        return newer(clone, revision)
