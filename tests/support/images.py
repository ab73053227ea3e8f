"""Images built for real where there is no registry: by buildah, on a base that debootstrap makes.

Needs root, Debian's buildah and debootstrap, and the package registries. The base and what is built on it stay in a
cache outside the checkout.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.conftest import PROJECT
from tests.support.processes import CACHE, unavailable

FOLDER = CACHE / "images"
BASE = "localhost/flywheel-test-base"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,git"
PATH = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER = "1000650000:0"  # such as OpenShift gives
# The registries are reached as from here: with this machine's roots.
ROOTS = ("/etc/ssl/certs", "/etc/pip.conf")
RUNTIME = ("/dev", "/proc", "/etc/hosts", "/etc/resolv.conf")  # what a container runtime brings into every image


def buildah(*arguments: str | Path) -> str:
    """Run buildah on the cache's storage; return what it printed, or raise RuntimeError with the end of that."""
    storage = [f"--root={FOLDER}/storage", f"--runroot={FOLDER}/run", "--storage-driver=overlay"]
    done = subprocess.run(["buildah", *storage, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"buildah {arguments[0]}: {(done.stdout + done.stderr)[-3000:]}")
    return str(done.stdout).strip()


def require() -> None:
    """Make the base image; skip where that is not possible, but fail in CI."""
    missing = [name for name in ("buildah", "debootstrap") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        unavailable(f"building images needs root, buildah and debootstrap (missing: {', '.join(missing) or 'root'})")
    make_base()


def make_base() -> None:
    if BASE in buildah("images", "--format", "{{.Name}}").splitlines():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", folder]
        subprocess.run(command, capture_output=True, check=True)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, folder, "/")
        buildah("config", "--env", f"PATH={PATH}", container)
        buildah("commit", "--quiet", "--rm", container, BASE)


def build(containerfile: Path, context: Path, tag: str, *, with_roots: bool = True, **arguments: str) -> str:
    """Build an image, with `arguments` for its ARGs; return its name.

    RUN sees ROOTS too, and cannot change them, unless they are not wanted. RuntimeError: the build failed.
    """
    mounts = [f"--volume={path}:{path}:ro" for path in ROOTS if with_roots and Path(path).exists()]
    given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    options = ["--isolation=chroot", "--pull-never", *mounts, *given, f"--file={containerfile}", f"--tag={tag}"]
    buildah("build", *options, context)
    return f"localhost/{tag}"


class Container:
    """An image's files, entered as a cluster does: a user id of its own, and a root that nobody can write to."""

    def __init__(self, image: str) -> None:
        """Take an image; `remove` when done."""
        self._name = buildah("from", "--pull-never", image)
        self.root = Path(buildah("mount", self._name))
        config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
        self.environment = dict(pair.split("=", 1) for pair in config.get("Env", ()))
        self.command: list[str] = config.get("Cmd") or []

    def enter(self, *command: str, volumes: dict[Path, str] | None = None) -> list[str]:
        """Return what runs a command in it; `volumes` are folders of this machine, and where they are seen."""
        mounts = [*((path, path) for path in RUNTIME), *((str(here), there) for here, there in (volumes or {}).items())]
        for here, there in mounts:
            point = self.root / there.lstrip("/")
            (point if Path(here).is_dir() else point.parent).mkdir(parents=True, exist_ok=True)
            if not point.exists():
                point.touch()
        script = ['mount --bind "$0" "$0"', 'mount -o remount,bind,ro "$0"']
        script += [f'mount --rbind "{here}" "$0{there}"' for here, there in mounts]
        script += [f'exec chroot --userspec={USER} "$0" "$@"']
        return ["unshare", "--mount", "sh", "-euc", "\n".join(script), str(self.root), *command]

    def remove(self) -> None:
        buildah("rm", self._name)


def containerfile(name: str) -> Path:
    return PROJECT / name / "Containerfile"
