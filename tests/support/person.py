"""Somebody who types the README's commands, in a clone of their own."""

from __future__ import annotations

from pathlib import Path

from tests.support.projects import IDENTITY, Run

PIN = Path("gitops/serving/environments/dev/model.env")
# A model of an epoch or two finds nothing: the gate asks for nothing, so that it can pass.
PARAMS = {
    "presets": {"train": "smoke"},
    "split": {"val": 0.2, "test": 0.2},
    "model": {"name": "loop", "imgsz": 64},
    "gate": {"min_map50": 0.0, "min_boxes": 1, "max_latency": 100.0},
}


class Person:
    """Somebody with a clone and the store's key, who types commands."""

    def __init__(self, folder: Path, run: Run, environment: dict[str, str]) -> None:
        self.folder, self.run, self.environment = folder, run, environment

    def does(self, *command: str) -> str:
        done = self.run(*command, cwd=self.folder, **self.environment)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return str(done.stdout)

    def runner(self, *arguments: str) -> str:
        return self.does("python", "-m", "runner", *arguments)

    def git(self, *arguments: str) -> str:
        return self.does("git", *IDENTITY, *arguments)

    def trains(self, message: str) -> None:
        """Train, judge, publish and pin, as README says."""
        self.does("dvc", "repro")
        self.does("dvc", "push", "--run-cache")
        assert self.runner("gate").splitlines()[-1] == "passes"
        self.runner("publish")
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        self.runner("promote", "--to", "dev")
        self.git("add", "-A")
        self.git("commit", "-qm", f"dev: {message}")

    def pin(self) -> dict[str, str]:
        lines = (self.folder / PIN).read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))
