"""Memory that decoding may take: one budget, derived from the container's limit, for pictures, captures and videos."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from PIL import Image

_PROCESS_BYTES = 320 << 20  # the server at rest, with two decoders and a small model
_SHARE = 0.8  # of the container's limit that the server means to use
_LARGE_BYTES = 32 << 20
_LEAST, _MOST = 64 << 20, 2 << 30
# Of version 2 of control groups, and of version 1; a container sees its own group as the root.
_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class MemoryBudget:
    """Limit of the bytes held at once, as by pictures being decoded or request bodies; thread-safe."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._changed = threading.Condition()

    def take(self, count: int, until: float = 0.0) -> bool:
        """Reserve bytes, and wait for them until a time of `monotonic` (0: not at all); False: too few are free."""
        with self._changed:
            while self.held + count > self.limit:
                if until <= monotonic():
                    return False
                self._changed.wait(min(until - monotonic(), threading.TIMEOUT_MAX))
            self.held += count
            return True

    def give_back(self, count: int) -> None:
        """Release bytes."""
        with self._changed:
            self.held -= count
            self._changed.notify_all()

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Release bytes that were taken, after the block."""
        try:
            yield
        finally:
            if count > _LARGE_BYTES:  # Pillow would keep blocks of it for the next picture
                Image.core.clear_cache()  # type: ignore[attr-defined]
            self.give_back(count)


def trim() -> None:
    """Give memory that was freed back to the system, where the C library is glibc; it would keep it in pieces."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def decode_memory(others: int) -> int:
    """Return the bytes of memory that decoding may take in this container.

    That is 80 % of the container's limit without what the process takes at rest and `others`, the bytes that settings
    allow to requests and captures; at least 64 MiB, and at most 2 GiB.
    """
    return int(min(_MOST, max(_LEAST, _SHARE * memory_limit() - _PROCESS_BYTES - others)))


def memory_limit(files: tuple[str, ...] = _FILES) -> int:
    """Return the bytes of memory that this container may use, or this machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in files:
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(machine, int(text))
    return machine
