"""A container of a Pod as a process of this machine that has only what the manifest gives it.

It has a root of its own: this machine's programs and this environment's packages, read-only; the mounted volumes;
nothing else, so no checkout. It runs as a user id that nobody knows, without capabilities, and dies with its process id
namespace. Where the tests do not run as root, a user namespace takes the place of the strange user id.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

USER = 1000660000  # as OpenShift gives them
IMAGE = Path("/opt/runner")  # where the image has its packages
PROGRAMS = ("/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/etc/alternatives")
FILES = ("passwd", "group", "hosts", "resolv.conf", "nsswitch.conf", "ld.so.cache")  # of /etc
DEVICES = ("null", "zero", "full", "random", "urandom")
_POLL_SECONDS = 0.05


def run_container(
    command: Sequence[str],
    *,
    mounts: Mapping[str, tuple[Path, bool]],
    environment: Mapping[str, str],
    folder: str,
    log: Path,
    stop: Callable[[], bool] = lambda: False,
    seconds: float = 3600,
) -> int:
    """Run a command and return its exit status; -9 when it was stopped.

    Args:
        command: a path inside, and arguments.
        mounts: path inside → folder of this machine, and whether it is read-only.
        environment: all that there is, but for the image's PATH.
        folder: where it starts.
        log: file for its output, appended to.
        stop: asked again and again; ends it when true.
        seconds: after which it is ended.
    """
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="root-") as root:
        variables = {"PATH": f"{IMAGE}/bin:/usr/bin:/bin", **environment}
        identity = f"setpriv --reuid={USER} --regid=0 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
        inside = ["env", "-i", *(f"{key}={value}" for key, value in variables.items()), *command]
        start = f"cd {shlex.quote(folder)} && exec {shlex.join(inside)}"
        script = "\n".join(
            [
                "set -e",
                *_mounting(root, mounts),
                f"exec chroot {shlex.quote(root)} {identity if is_root else ''} /bin/sh -c {shlex.quote(start)}",
            ]
        )
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        namespaces += [] if is_root else ["--user", "--map-root-user"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["unshare", *namespaces, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            end = time.monotonic() + seconds
            while process.poll() is None:
                if stop() or time.monotonic() > end:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    return -9
                time.sleep(_POLL_SECONDS)
    return process.returncode


def can_run() -> str:
    """Say why no container can run here; empty when one can."""
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
            "true",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip()


def _mounting(root: str, mounts: Mapping[str, tuple[Path, bool]]) -> list[str]:
    lines = [f"mount -t tmpfs -o mode=755 root {shlex.quote(root)}", f"cd {shlex.quote(root)}"]
    lines += ["mkdir -p proc dev/shm etc", "mount -t proc proc proc"]
    lines += [f"touch dev/{name}; mount --bind /dev/{name} dev/{name}" for name in DEVICES]
    lines += ["mount -t tmpfs -o mode=1777,size=64m shm dev/shm"]  # as container runtimes have it
    for program in PROGRAMS:
        if Path(program).is_symlink():
            lines.append(f"ln -s {Path(program).readlink()} .{program}")
        elif Path(program).is_dir():
            lines.append(_bind(Path(program), program, read_only=True))
    lines += [f"cp -L /etc/{name} etc/ 2>/dev/null || true" for name in FILES]
    lines.append(_bind(Path(sys.prefix), str(IMAGE), read_only=True))
    if not sys.base_prefix.startswith("/usr"):  # where the environment's links lead
        lines.append(_bind(Path(sys.base_prefix), sys.base_prefix, read_only=True))
    for inside, (path, read_only) in sorted(mounts.items()):
        lines.append(_bind(path, inside, read_only=read_only))
    return [*lines, "mount -o remount,ro ."]


def _bind(path: Path, inside: str, *, read_only: bool) -> str:
    target = shlex.quote(f".{inside}")
    lines = f"mkdir -p {target}; mount --bind {shlex.quote(str(path))} {target}"
    return f"{lines}; mount -o remount,bind,ro {target}" if read_only else lines
