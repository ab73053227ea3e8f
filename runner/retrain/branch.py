"""The branch that retrains follow: a clone of it, whether a commit is still the newest that changes a training, and the
patience with a server that is away, or with somebody who was faster.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from runner.errors import GitError
from runner.forge.git import credentials, git
from runner.pipeline.sources import sources

BOT = ("-c", "user.name=flywheel", "-c", "user.email=flywheel@users.noreply.github.com")
TRIES, FIRST_PAUSE, LONGEST_PAUSE = 8, 1.0, 60.0
LINE = 300  # characters of a Task's result, of which all together have 4 KiB
Result = TypeVar("Result")


def insist(do: Callable[[], Result], *, tries: int = TRIES, pause: Callable[[float], None] = time.sleep) -> Result:
    """Return what `do` returns; it is called again while Git or its server refuses.

    Args:
        do: several calls of it must end as one.
        tries: at most; eight take two minutes.
        pause: waits some seconds before another try.
    Raises:
        GitError: of the last try.
    """
    seconds = FIRST_PAUSE
    for attempt in range(1, tries):
        try:
            return do()
        except GitError as error:
            print(f"try {attempt} of {tries}: {error}; again in {seconds:.0f} s", flush=True)
        pause(seconds)
        seconds = min(2 * seconds, LONGEST_PAUSE)
    return do()


@contextmanager
def cloned(url: str, branch: str) -> Iterator[Path]:
    """Give a clone of a branch with its history, in which the bot commits, until the block ends.

    Raises:
        GitError: it cannot be reached, or there is no such branch.
    """
    with tempfile.TemporaryDirectory(prefix="flywheel-clone-") as folder:
        clone = Path(folder, "repository")
        options = ("--quiet", "--single-branch", "--branch", branch, *BOT)
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
    later = changes(clone, f"{revision}..HEAD")
    return f"superseded by {later[0]}"[:LINE] if later else ""


def changes(clone: Path, commits: str) -> list[str]:
    """Return the commits of a range that change an input of a training, newest first: id and subject.

    Raises:
        GitError: the clone cannot be read.
    """
    log = ("--literal-pathspecs", "log", "--format=%h %s", commits, "--", *sources(clone))
    return git(clone, *log).splitlines()


def newer_on(url: str, branch: str, revision: str) -> str:
    """Say the same of a branch on a server.

    Raises:
        GitError: it cannot be reached, or there is no such branch.
    """
    with cloned(url, branch) as clone:
        return newer(clone, revision)
