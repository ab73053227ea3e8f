"""Folders of a project, and atomic writes of outputs and files.

A SIGKILL of `dvc` leaves the stage's process running, and a second `dvc repro` would write into the same folders. So a
stage holds a lock, watches its parent process, builds its outputs in `.work/` and renames them into `artifacts/` at the
end. A killed process leaves no file that a later one trusts.
"""

import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from runner.errors import ConfigError, StageError

ARTIFACTS = Path("artifacts")
CONF = Path("conf")
LOCK = Path("dvc.lock")
PARAMS = Path("params.yaml")
STALE_DAYS = 14
_POLL_SECONDS = 0.2


def work_folder(project: Path | None = None) -> Path:
    """Return the scratch folder, which may not exist yet: RUNNER_WORK, else `.work`, relative to the project.

    None is `project_root()`: queued experiments share the scratch folder of their project.
    """
    return ((project or project_root()) / (os.environ.get("RUNNER_WORK") or ".work")).resolve()


def project_root() -> Path:
    """Return the project's folder: DVC_ROOT, which DVC sets for queued experiments, else the current folder."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


@contextmanager
def scratch(prefix: str, project: Path | None = None) -> Iterator[Path]:
    """Give an empty folder in `work_folder`, removed after the block."""
    work = work_folder(project)
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=work) as folder:
        yield Path(folder)


@contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary file beside `path` that replaces it when the block ends without an error; its folder is created.

    `durable`: fsync, so that a power cut leaves the old file or the new one; costs milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o644)
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def parse_assignments(lines: Iterable[str], file: Path, keys: Collection[str]) -> dict[str, str]:
    """Parse KEY=value lines, skipping `#` comments; ConfigError with the file's line for another or a repeated key."""
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals or key not in keys or key in values:
            raise ConfigError(f"{file}:{number}: found {line!r}, expected each of {', '.join(keys)} once, as KEY=value")
        values[key] = value
    return values


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """Hard-link a file; copy it where the file system cannot. FileExistsError if the target exists."""
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise  # a copy would overwrite the existing file, maybe a hard link to another
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def made_by(command: str) -> Iterator[None]:
    """Turn the FileNotFoundError of an output that is not here into a StageError with the command that makes it."""
    try:
        yield
    except FileNotFoundError as error:
        raise StageError(f"{error.filename} is missing; `{command}` makes it, `dvc pull` fetches it") from error


def remove_stale(keep: Path) -> None:
    """Remove the folders beside `keep`, such as caches of other inputs, that were not used for STALE_DAYS."""
    if keep.exists():
        os.utime(keep)
    for other in keep.parent.glob("*"):
        if other != keep and other.is_dir() and time.time() - other.stat().st_mtime > STALE_DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)


@contextmanager
def outputs(stage: str, *names: str) -> Iterator[list[Path]]:
    """Give an empty folder for each output of a stage; they become `artifacts/<name>` when the block ends well.

    Waits while another process runs the same stage in this folder, and exits when the parent process dies. The folders
    are removed when the block fails.
    """
    _die_with_dvc()
    build = Path(".work", f"{stage}.build").absolute()  # beside artifacts/, so that a rename suffices
    with _alone(stage):
        shutil.rmtree(build, ignore_errors=True)
        try:
            folders = [build / name for name in names]
            for folder in folders:
                folder.mkdir(parents=True)
            yield folders
            ARTIFACTS.mkdir(exist_ok=True)
            for folder in folders:
                target = ARTIFACTS / folder.name
                if target.exists():
                    shutil.rmtree(target)
                folder.rename(target)
        finally:
            shutil.rmtree(build, ignore_errors=True)


def _alone(stage: str) -> AbstractContextManager[object]:
    lock = FileLock(Path(".work", f"{stage}.lock").absolute())
    Path(lock.lock_file).parent.mkdir(exist_ok=True)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{stage}: waiting for another process that runs this stage here", flush=True)
        return lock.acquire()


def _die_with_dvc() -> None:
    """Kill this process and its children soon after the parent `dvc` is gone."""
    if "DVC_STAGE" not in os.environ:
        return
    watched = []
    for ancestor in psutil.Process().parents():
        watched.append(ancestor)
        if not _is_shell(ancestor):
            break
    _die_with(watched)


def die_with_ancestors(count: int) -> None:
    """Kill this process and its children soon after one of the `count` processes above it is gone."""
    _die_with(psutil.Process().parents()[:count])


def _die_with(watched: Sequence[psutil.Process]) -> None:
    def watch() -> None:
        while all(_is_alive(process) for process in watched):
            time.sleep(_POLL_SECONDS)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die-with-ancestors").start()


def _is_shell(process: psutil.Process) -> bool:
    """Whether a process is the shell that DVC starts a stage's command with, and not DVC."""
    try:
        return process.name() in ("sh", "bash", "dash", "zsh", "ksh", "fish", "busybox")
    except psutil.Error:
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
