"""Control groups that limit the memory of a server and its children, as a container does."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import yaml

from serving.decoding.budget import decode_memory
from serving.settings import Settings
from tests.support.servers import Server, running

_PROJECT = Path(__file__).resolve().parents[2]
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


def pod_memory() -> int:
    """Return the memory limit of the model server's manifest in bytes."""
    deployment = yaml.safe_load((_PROJECT / "gitops/serving/base/deployment.yaml").read_text(encoding="utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    return int(limit[:-2]) << {"Mi": 20, "Gi": 30}[limit[-2:]]


def declared_memory(limit: int) -> int:
    """Return the decode budget that the server takes by default where its container has this limit."""
    settings = Settings()
    others = settings.max_held_bytes + settings.capture_queue_bytes + settings.recent_bytes
    with mock.patch("serving.decoding.budget.memory_limit", lambda: limit):
        return decode_memory(others)


@contextmanager
def limited(group: MemoryGroup, folder: Path, limit: int, **environment: str) -> Iterator[Server]:
    """Run a server in a group, with the settings that it would have in a container of this limit."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"DECODE_MEMORY_BYTES": str(declared_memory(limit)), "MALLOC_ARENA_MAX": "2", **environment}
    with running(folder, within=group.command, **settings) as server:
        yield server
