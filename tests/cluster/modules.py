"""Where the Go modules lie that the cluster is built from; the `go` command knows, and fetches what is not there."""

import json
import subprocess
from pathlib import Path

from tests.cluster.places import FOLDER


def module(program: str, name: str) -> Path:
    """Return the folder of a module that a program of programs/ is built from, in the version that its go.mod says."""
    command = ["go", "list", "-mod=mod", "-m", "-f", "{{.Dir}}", name]
    where = FOLDER / "programs" / program
    return Path(subprocess.run(command, cwd=where, capture_output=True, text=True, check=True).stdout.strip())


def downloaded(name: str) -> Path:
    """Return the folder of a module, NAME@VERSION, of which nothing is built."""
    command = ["go", "mod", "download", "-json", name]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    return Path(json.loads(done.stdout)["Dir"])
