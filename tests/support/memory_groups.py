"""Control groups that limit the memory of a server and its children, as a container does."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """A control group; `command` prefixes a command that shall run in it."""

    folder: Path
    peak_file: str

    @property
    def command(self) -> list[str]:
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh"]

    @property
    def peak(self) -> int:
        """The most bytes that it held, files that it read included."""
        return int((self.folder / self.peak_file).read_text())

    @property
    def resident(self) -> int:
        """Bytes that it holds now, without files."""
        lines = (self.folder / "memory.stat").read_text().splitlines()
        values = dict(line.split() for line in lines)
        return int(values.get("total_rss", values.get("anon", 0)))

    @property
    def killed(self) -> int:
        """Processes that the kernel killed for their memory."""
        name = "memory.oom_control" if (self.folder / "memory.oom_control").exists() else "memory.events"
        values = dict(line.split() for line in (self.folder / name).read_text().splitlines())
        return int(values["oom_kill"])


@contextmanager
def memory_group(limit: int) -> Iterator[MemoryGroup | None]:
    """Give a group with this limit in bytes; None where this machine lets nobody make one."""
    old = _ROOT / "memory" / "memory.limit_in_bytes"
    parent = _ROOT / "memory" if old.exists() else _ROOT
    folder = parent / f"flywheel-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if old.exists() else "memory.max")).write_text(str(limit))
        group = MemoryGroup(folder, "memory.max_usage_in_bytes" if old.exists() else "memory.peak")
        assert group.peak >= 0
    except (OSError, AssertionError):
        with suppress(OSError):
            folder.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        for _ in range(50):
            try:
                folder.rmdir()
                break
            except OSError:  # its last process is ending
                time.sleep(0.1)
