"""The bot's commit: dvc.lock, and dev's pin when the model passed the gate; no other file.

The branch moves while a training runs, so the commit is made on its head, and made again after a lost race. A model is
only pinned when it was trained with the committed params.yaml: a run with other values, or one that fell back to the
CPU's limits, has another file.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from runner.errors import StageError
from runner.forge.git import credentials, git, retry
from runner.forge.pull_request import propose
from runner.release.pin import DEV, STAGING, parse_pin, pin_file, read_pin
from runner.release.promote import difference, promote
from runner.release.staging import staged_text
from runner.retrain.branch import changes, cloned, newer
from runner.store import Store
from runner.store.published import Version, read_version
from runner.store.signatures import check_signature

LOCK, PIN = "dvc.lock", str(pin_file(DEV))
BOT_FILES = (LOCK, PIN)
TRAILER = "Flywheel-Pin"  # by which the trigger recognises the bot's commits


class Run(NamedTuple):
    """A run: PipelineRun name, digest of what it staged, commit id, repository URL and branch."""

    name: str
    release: str
    revision: str
    url: str
    branch: str


class Pinned(NamedTuple):
    """Result of `pin`: `commit` is empty when there was nothing to commit, `said` is why."""

    commit: str
    said: str


def pin(
    run: Run, store: Store, model: str, number: int, *, mode: str, pause: Callable[[float], None] = time.sleep
) -> Pinned:
    """Commit a run's result to the branch: the published version `number`, and its lock.

    `mode` is push, or pull-request where the branch is protected. StageError: a file other than the bot's would change.
    ObjectError: the Task's own clone requires a signature, and none of its signers has signed the version.
    """
    version = read_version(store, model, number)
    check_signature(Path.cwd(), store, version)
    lock, params = (staged_text(store, run.name, run.release, name) for name in (LOCK, "params.yaml"))
    try:
        yaml.safe_load(lock)["stages"].keys()
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise StageError(f"pipeline/{run.name}: its {LOCK} is no dvc.lock; run the training again") from error

    def commit() -> Pinned:
        with cloned(run.url, run.branch, commits=True) as clone:
            if reason := _objection(clone, run, params, version):
                return Pinned("", f"not pinned: {reason}")
            changed = _write(clone, store, lock, version)
            if not changed:
                return Pinned("", f"{model} {number} is in Git already: nothing to commit")
            return _commit(clone, run, version, changed, mode)

    return retry(commit, pause=pause)


def propose_for_staging(url: str, branch: str, store: Store, model: str, number: int) -> str:
    """Open or update the pull request that pins a version to staging; return the result, to print.

    It has both models' metrics. Empty: `gate.deploy` was not set, or the model did not pass.
    """
    version = read_version(store, model, number)
    if not version.passed or not (version.manifest.verdict and version.manifest.verdict.deploy):
        return ""
    with cloned(url, branch, commits=True) as clone:
        body = difference(clone, STAGING, version, markdown=True)
        print(promote(clone, store, STAGING, version, force=False, allow_local=False), flush=True)
        file = pin_file(STAGING)
        files = {str(file): (clone / file).read_bytes()}
        title = f"{STAGING}: {model} {number}"
        return propose(clone, files, branch=f"flywheel/{STAGING}", title=title, body=body, base=branch)


def _objection(clone: Path, run: Run, params: bytes, version: Version) -> str:
    """Return why this run must not be committed; empty when it may."""
    if reason := newer(clone, run.revision):
        return reason
    if version.manifest.trial:
        return f"it was made with other values than the commit's ({version.manifest.trial})"
    ours = params.decode(errors="replace").strip()
    if ours == git(clone, "show", f"{run.revision}:params.yaml").strip():
        return ""
    return f"it was made with other values than the commit's ({ours.partition(chr(10))[0].lstrip('# ')})"


def _write(clone: Path, store: Store, lock: bytes, version: Version) -> list[str]:
    """Write the bot's files; return those that changed. StageError: another would change, or one is no plain file."""
    for line in git(clone, "ls-files", "--stage", "--", *BOT_FILES).splitlines():
        entry, _, file = line.partition("\t")
        if not entry.startswith("100"):  # the mode of a file in Git
            raise StageError(f"{file}: is no plain file (mode {entry[:6]}); nothing is pushed")
    (clone / LOCK).write_bytes(lock)
    if version.passed and _was_reverted(clone, version):
        print(f"{DEV} ran this version before, and it was reverted: no new pin until a training input changes")
    elif version.passed:
        print(promote(clone, store, DEV, version, force=False, allow_local=False), flush=True)
    git(clone, "add", "--all")
    files = git(clone, "diff", "--cached", "--name-only", "--no-renames").splitlines()
    if others := [file for file in files if file not in BOT_FILES]:
        raise StageError(
            f"{', '.join(others)} would change too, expected {' and '.join(BOT_FILES)} alone; nothing is pushed"
        )
    return files


def _was_reverted(clone: Path, version: Version) -> bool:
    """Whether this version was pinned before, and no commit since then changed a training input.

    Somebody reverted the pin then, and a nightly run must not restore it. After the store was recreated, the number is
    that of another version.
    """
    now = read_pin(clone, DEV)
    if now is not None and now.sha256 == version.sha256:
        return False
    former = git(clone, "log", "-1", "--format=%H", f"--grep=^{TRAILER}: {version.model}/{version.number}$", "--", PIN)
    if not former:
        return False
    pinned = parse_pin(git(clone, "show", f"{former}:{PIN}"), clone / PIN)
    return pinned is not None and pinned.sha256 == version.sha256 and not changes(clone, f"{former}..HEAD")


def _commit(clone: Path, run: Run, version: Version, changed: list[str], mode: str) -> Pinned:
    name = f"{version.model} {version.number}"
    what = f"{DEV} runs {name}" if PIN in changed else f"Lock of {name}"
    what += "" if version.passed else ", not pinned"
    title = what + ("" if version.map50 is None else f", mAP50 {version.map50:.3f}")
    body = f"Of {run.revision}, by {run.name}.\n\n{TRAILER}: {version.model}/{version.number}"
    if mode == "pull-request":
        files = {file: (clone / file).read_bytes() for file in changed}
        said = propose(clone, files, branch=f"flywheel/{version.model}", title=title, body=body, base=run.branch)
        return Pinned("", f"{title}: {said}")
    git(clone, "commit", "--quiet", "--message", f"{title}\n\n{body}")
    git(clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{run.branch}", environment=credentials(run.url))
    commit = git(clone, "rev-parse", "HEAD")
    return Pinned(commit, f"{title}: commit {commit[:12]} on {run.branch}")
