"""What a run's Tasks hand on to each other through the store: `pipeline/<run>/`, each file replaced by the next."""

from __future__ import annotations

from pathlib import Path

from runner.release.verdict import verdict_file
from runner.store import Store
from runner.workspace import work_folder, writing


def give(store: Store, project: Path, run: str) -> list[str]:
    """Put params.yaml, dvc.lock and the verdict, where they are here, into the store; return their names.

    Raises:
        StoreError: it cannot be reached.
    """
    given = []
    for name, path in _files(project).items():
        if path.is_file():
            store.replace(f"pipeline/{run}/{name}", path.read_bytes())
            given.append(name)
    return given


def take(store: Store, project: Path, run: str) -> list[str]:
    """Put what the Tasks before have given in its place; return the names.

    Raises:
        StoreError: it cannot be reached.
    """
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
