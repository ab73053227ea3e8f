"""Servers as processes on loopback: started with a log, waited for, and stopped by their own process id."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
import pytest

from tests.cluster.places import BIN

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flywheel"  # of what `make` builds
Answer = TypeVar("Answer")


def unavailable(reason: str) -> NoReturn:
    """Skip a test that needs a program of this machine; fail where CI=true, which has all of them."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def program(name: str, remedy: str) -> str:
    """Return the path of a program, in this Python's environment, on PATH or where `make` builds it."""
    folders = (Path(sys.executable).parent, *os.environ.get("PATH", "").split(os.pathsep), CACHE / "bin", BIN)
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    return found or unavailable(f"{name} is missing: {remedy}")


def free_port() -> int:
    """Return a port on loopback that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(
    command: Sequence[str | Path], log: Path, answers: Callable[[], bool], *, seconds: float = 120, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a server; return its process once it `answers` (an OSError, or one of httpx, is no answer).

    Its output is appended to `log`, whose end the AssertionError has when it ended or gave no answer in time.
    """
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, **options
        )
    try:
        end = time.monotonic() + seconds
        while not _is_true(answers):
            ended = process.poll() is not None
            assert not ended and time.monotonic() < end, f"{command[0]}: {log.read_text(errors='replace')[-4000:]}"
            time.sleep(0.1)
    except BaseException:
        stop(process)
        raise
    return process


def _is_true(answers: Callable[[], bool]) -> bool:
    try:
        return answers()
    except (OSError, httpx.HTTPError):
        return False


def stop(process: subprocess.Popen[Any] | None, *, kill: bool = False) -> None:
    """End a process: by SIGTERM and, after 20 seconds or with `kill`, by SIGKILL; None is no process."""
    if process is None:
        return
    if kill:
        process.kill()
    else:
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Restartable:
    """A server that a test may end, and start again: same port, same data, same user."""

    process: subprocess.Popen[bytes] | None = None

    def stop(self, *, kill: bool = False) -> None:
        """End it; `kill` gives it no time to finish anything."""
        stop(self.process, kill=kill)
        self.process = None


def until(ask: Callable[[], Answer], seconds: float = 60, *, pause_s: float = 0.1) -> Answer:
    """Return an answer once it is true; fail after that many seconds."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"{answer!r} after {seconds:.0f} s"
        time.sleep(pause_s)
    return answer


@contextmanager
def disk(folder: Path, size: int | str) -> Iterator[Path]:
    """A small disk at a new folder, which only root can mount; `size` in bytes, or with a unit."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=False).returncode:
        pytest.skip("only root may mount a disk to fill or to write-protect")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def meanwhile(do: Callable[[], object]) -> Iterator[None]:
    """Do something else until the block ends; what fails there fails here."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(do)
        yield
        done.result()
