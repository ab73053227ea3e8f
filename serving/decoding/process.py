"""A decoder process, seen from the server: started, asked, and killed when it takes too long."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from serving.decoding.program import FRAME, Reply, send
from serving.errors import Refused
from serving.vision import headers
from serving.vision.headers import PictureError, TooLargeError, UnreadableError

_START_SECONDS = 60.0
_POLL_SECONDS = 0.2
_GROWTH_BYTES = 16 << 20  # of a process that is idle: it holds more than it should
_ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # what a picture took goes back to the system
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "VIRTUAL_ENV", "PYTHONHOME")  # no keys, no passwords


class Ended(Exception):  # noqa: N818 - says how
    """The process did not finish a task; `reason`: time, cpu, crash, given_up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def error(self, seconds: float) -> Exception:
        """Return the error for the picture's sender."""
        if self.reason == "cpu":
            return TooLargeError("the picture takes too much work to decode; expected a smaller or simpler one")
        if self.reason == "crash":
            return UnreadableError("the picture's decoder crashed; expected one that opens in a picture viewer")
        if self.reason == "time":
            return Refused(503, f"the picture was not decoded within {seconds:g} s; try again later, or a smaller one")
        return Refused(503, "the server is about to stop; try again")


class DecoderProcess:
    """One process, which runs a program of this package; OSError: it does not start. Not thread-safe."""

    def __init__(self, program: str = "program") -> None:
        path = os.pathsep.join([str(_ROOT), *(each for each in sys.path if each)])
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"serving.decoding.{program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | _ENVIRONMENT | {"PYTHONPATH": path},
        )
        assert self._process.stdin and self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._answers.fileno(), False)
        self._received = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        try:
            self.hear(monotonic() + _START_SECONDS, lambda: False)
        except Ended as error:
            self.kill()
            raise OSError(f"the decoder process ended while it started ({error.reason})") from error
        self._resident = self._memory()
        self._spent = False  # memory once ran out, after which libraries may be in any state

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it was killed, or ended by itself."""
        return self._process.poll() is not None

    @property
    def worn(self) -> bool:
        """Whether it should do no other task: memory ran out, or it holds much more than at its start."""
        return self._spent or self._memory() > self._resident + _GROWTH_BYTES

    def ask(
        self, request: Mapping[str, Any], data: bytes, until: float, given_up: Callable[[], bool]
    ) -> Reply | Exception:
        """Return the reply to a request, or the error of its picture.

        Ended: not answered before `until` of `monotonic`, or before it was given up. The process is of no use then.
        """
        self.tell(request, data)
        facts, result = self.hear(until, given_up)
        if "error" not in facts:
            return Reply(facts, result)
        self._spent = facts["error"] in ("MemoryError", "TooLargeError")
        if facts["error"] == "MemoryError":
            return TooLargeError("the picture needs more memory than its headers tell; expected an honest one")
        kind = getattr(headers, str(facts["error"]), UnreadableError)
        return kind(facts["message"]) if issubclass(kind, PictureError) else UnreadableError(facts["message"])

    def kill(self) -> None:
        """End it at once."""
        self._selector.close()
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            with suppress(OSError):
                pipe.close()

    def tell(self, request: Mapping[str, Any], data: bytes = b"") -> None:
        """Send a message; Ended: the process has ended."""
        try:
            send(self._requests, dict(request), data)
        except OSError as error:
            raise Ended(self._end()) from error

    def hear(self, until: float, given_up: Callable[[], bool]) -> tuple[dict[str, Any], bytes]:
        """Wait for a message. Ended: as of `ask`."""
        length, size = FRAME.unpack(self._bytes(FRAME.size, until, given_up))
        return json.loads(self._bytes(length, until, given_up)), self._bytes(size, until, given_up)

    def _bytes(self, count: int, until: float, given_up: Callable[[], bool]) -> bytes:
        """Return the next bytes of the answers; those that came with them are kept for the next call."""
        while len(self._received) < count:
            self._wait(until, given_up)
            chunk = os.read(self._answers.fileno(), 1 << 20)
            if not chunk:
                raise Ended(self._end())
            self._received += chunk
        with memoryview(self._received) as received:
            found = bytes(received[:count])
        del self._received[:count]
        return found

    def _wait(self, until: float, given_up: Callable[[], bool]) -> None:
        while not self._selector.select(_POLL_SECONDS):
            if given_up():
                raise Ended("given_up")
            if monotonic() > until:
                raise Ended("time")

    def _end(self) -> str:
        """Return why the process ended by itself."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "crash"
        return "cpu" if status == -signal.SIGXCPU else "crash"

    def _memory(self) -> int:
        """Return its resident memory in bytes."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
