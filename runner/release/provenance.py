"""Provenance of a model: metadata of its file, commit of the work tree, versions of the libraries."""

import importlib.metadata
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.errors import GitError
from runner.forge.git import git
from runner.pipeline.sources import sources
from runner.stages.evaluate.examples import load

LIBRARIES = ("ultralytics", "torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow", "faster-coco-eval")


def onnx_facts(onnx: Path) -> dict[str, Any]:
    """Return classes, imgsz and license of a model file, as the manifest has them."""
    detector = load(onnx)
    height, width = detector.input_hw
    imgsz = height if height == width else [height, width]
    return {"classes": detector.classes, "imgsz": imgsz, "license": detector.metadata.get("license")}


def commit_of(project: Path) -> dict[str, Any]:
    """Return the commit of the work tree, and in words whether it has uncommitted changes."""
    commit = None
    try:
        commit = git(project, "rev-parse", "HEAD")
        status = ("--literal-pathspecs", "status", "--porcelain", "--untracked-files=all", "--", *sources(project))
        changes = git(project, *status)
    except GitError as error:
        unknown = "changes since are unknown" if commit else "no commit"
        return {"commit": commit, "work_tree": f"{unknown}: {error}"}
    changed = [line[3:] for line in changes.splitlines()]
    return {"commit": commit, "work_tree": f"changed since: {', '.join(changed)}" if changed else "as committed"}


def libraries() -> dict[str, str]:
    """Return name → version of Python and the installed libraries that decide a model's bytes and figures."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
