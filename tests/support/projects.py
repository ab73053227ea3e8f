"""A copy of the project to run real `git` and `dvc` in; a repository with a remote."""

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


class Repository:
    """A clone with a branch main, and its remote, which is a folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.clone = folder / "things.git", folder / "clone"
        self.url = f"file://{self.bare}"
        for command in (("--bare", str(self.bare)), (str(self.clone),)):
            subprocess.run(["git", "init", "-q", "-b", "main", *command], check=True)

    def commit(self, message: str, **files: str | None) -> str:
        """Write files by their paths, None to remove one; commit and push them; return the commit's id."""
        for name, text in files.items():
            file = self.clone / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink() if text is None else file.write_text(text)
        self.git("add", "-A")
        self.git(*IDENTITY, "commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-qf", self.url, "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def follow(self) -> None:
        """Bring the clone to what somebody else has pushed."""
        self.git("fetch", "-q", self.url, "main")
        self.git("reset", "-q", "--hard", "FETCH_HEAD")

    def git(self, *arguments: str) -> str:
        return git(self.clone, *arguments)

    def remote(self, *arguments: str) -> str:
        return git(self.bare, *arguments)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
