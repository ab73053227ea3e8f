"""Files handed from Task to Task through the store: `pipeline/<run>/`, each overwritten by the next Task."""

from __future__ import annotations

from pathlib import Path

from runner.release.verdict import verdict_file
from runner.store import Store
from runner.workspace import work_folder, writing


def give(store: Store, project: Path, run: str) -> list[str]:
    """Put params.yaml, dvc.lock and the verdict, those that exist, into the store; return their names."""
    given = []
    for name, path in _files(project).items():
        if path.is_file():
            store.replace(f"pipeline/{run}/{name}", path.read_bytes())
            given.append(name)
    return given


def take(store: Store, project: Path, run: str) -> list[str]:
    """Write the files of earlier Tasks to the project; return their names."""
    there = store.list(f"pipeline/{run}/")
    taken = []
    for name, path in _files(project).items():
        if (key := f"pipeline/{run}/{name}") in there:
            content = store.read(key)
            with writing(path) as temporary:
                temporary.write_bytes(content)
            taken.append(name)
    return taken


def _files(project: Path) -> dict[str, Path]:
    return {
        "params.yaml": project / "params.yaml",
        "dvc.lock": project / "dvc.lock",
        "verdict.json": verdict_file(work_folder()),
    }
