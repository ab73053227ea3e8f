"""The inputs of a training: the repository's files that decide a model, which dvc.yaml names.

A commit that changes one of them is trained and takes the place of an older one; any other commit does not. The filter
of gitops/pipelines/base/trigger/event-listener.yaml has the same list; tests/contract holds both equal.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import yaml

ALWAYS = ("conf", "constraints-train.txt", "dvc.yaml", "params.yaml")


def sources(project: Path) -> list[str]:
    """Return the files and folders, relative to the project, sorted.

    Those that stages depend on and no stage makes, and ALWAYS, which is all where dvc.yaml cannot be read: then it was
    changed, and is in ALWAYS itself. A file of a folder that is named too is left out.
    """
    try:
        stages = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        deps = {path for stage in stages.values() for path in _paths(stage.get("deps", []))}
        outs = {path for stage in stages.values() for path in _paths(stage.get("outs", []))}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return list(ALWAYS)
    found = {*ALWAYS, *(deps - outs)}
    return sorted(path for path in found if found.isdisjoint(str(folder) for folder in PurePosixPath(path).parents))


def _paths(entries: list[str | dict[str, object]]) -> list[str]:
    """Return the paths of a list in dvc.yaml, each alone or with settings."""
    return [path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)]
