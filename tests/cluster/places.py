"""Where the test cluster is, as common.sh says it to the scripts."""

import os
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flywheel"
CACHE = Path(os.environ.get("FLYWHEEL_CLUSTER") or _CACHE / "cluster")
BIN = CACHE / "bin"
KUBECONFIG = CACHE / "kubeconfig"
REGISTRY = "172.30.0.1:5000"
FORGE = "git.flywheel.test"
FORGE_IP = "172.30.0.2"


def outside(*command: str | Path) -> None:
    """Run a command with the mounts of the machine, also from a desk, which has its own."""
    mounts = os.environ.get("DESK_OUTSIDE")
    enter = ["nsenter", f"--mount={mounts}"] if mounts else []
    subprocess.run([*enter, *command], check=True, capture_output=True)


def script(name: str, *arguments: str) -> None:
    """Run one of the cluster's scripts."""
    outside(FOLDER / name, *arguments)
