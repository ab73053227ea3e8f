"""A copy of the project to run real `git` and `dvc` in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

Run = Callable[..., subprocess.CompletedProcess[str]]
IDENTITY = ("-c", "user.name=tests", "-c", "user.email=tests@example.invalid")


def copy_project(source: Path, target: Path, environment: dict[str, str]) -> Path:
    """Copy what Git tracks or would track, as it is in the working tree, into a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", *IDENTITY, "commit", "-qm", "copy"]):
        subprocess.run(command, cwd=target, env=environment, check=True)
    return target


def set_params(project: Path, changes: dict[str, Any]) -> None:
    """Change values of params.yaml as an editor would."""
    yaml = YAML()
    params = yaml.load(project / "params.yaml")

    def merge(into: dict[str, Any], what: dict[str, Any]) -> None:
        for key, value in what.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                merge(into[key], value)
            else:
                into[key] = value

    merge(params, changes)
    yaml.dump(params, project / "params.yaml")
