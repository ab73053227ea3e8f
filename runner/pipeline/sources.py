"""Training inputs: the repository's files that decide a model, as listed in dvc.yaml.

A commit that changes one of them is trained and supersedes older ones; any other commit is not. The filter of
gitops/pipelines/base/trigger/event-listener.yaml has the same list; tests/contract holds both equal.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ALWAYS = ("conf", "constraints-train.txt", "dvc.yaml", "params.yaml")


def sources(project: Path) -> list[str]:
    """Return the training inputs: files and folders, relative to the project, sorted.

    These are the dependencies that no stage makes, and ALWAYS. If dvc.yaml cannot be read, only ALWAYS, which includes
    dvc.yaml itself. A file inside a listed folder is left out.
    """
    try:
        stages = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        deps = {path for stage in stages.values() for path in paths(stage, "deps")}
        outs = {path for stage in stages.values() for path in paths(stage, "outs")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return list(ALWAYS)
    found = {*ALWAYS, *(deps - outs)}
    return sorted(path for path in found if found.isdisjoint(str(folder) for folder in PurePosixPath(path).parents))


def paths(stage: Mapping[str, Any], key: str) -> list[str]:
    """Return the paths of a stage in dvc.yaml, whose entries may have settings; `key`: deps, params or outs."""
    return [path for entry in stage.get(key, []) for path in ([entry] if isinstance(entry, str) else entry)]
