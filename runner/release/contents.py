"""Contents of a version: the model in artifacts/ with its run, or a stock pretrained model."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from runner.config.compose import compose
from runner.config.override import trial_note
from runner.config.schema import MODEL_NAME
from runner.dataset.weights import check_weights
from runner.errors import GitError, StageError
from runner.forge.git import git
from runner.pipeline.sources import sources
from runner.release.candidate import load_candidate
from runner.release.verdict import criteria_of, read_verdict
from runner.workspace import sha256_of, work_folder
from serving.vision.detector import Detector
from serving.vision.metadata import ModelError

LIBRARIES = ("ultralytics", "torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow", "faster-coco-eval")


class Release(NamedTuple):
    """A model with everything to be published.

    Attributes:
        files: of the run, by their name in the store.
        manifest: as `serving.storage.manifest` reads it, without the version; verdict.json and the model card follow.
        same: identifies the version when it is published again, apart from the verdict.
    """

    model: str
    onnx: Path
    files: dict[str, Path]
    manifest: dict[str, Any]
    same: dict[str, Any]


@contextmanager
def releasing(project: Path, baseline: Path | None = None) -> Iterator[Release]:
    """Give the release until the block ends, with the errors of `release_of_run` and `release_of_baseline`.

    Args:
        baseline: a stock pretrained .pt file; None: the model in artifacts/.
    """
    work = work_folder()
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="publish-", dir=work) as scratch:
        if baseline is None:
            yield release_of_run(project, Path(scratch))
        else:
            yield release_of_baseline(baseline, project, Path(scratch))


def release_of_run(project: Path, scratch: Path) -> Release:
    """Return the model in artifacts/ as a release; StageError when there is none, or the gate has not judged it."""
    config, folder, onnx, metrics = load_candidate(project)
    sha256 = sha256_of(onnx)
    verdict = read_verdict(work_folder(), sha256, criteria_of(config.gate))
    params, trial = config.model_dump(mode="json"), trial_note(project)
    composed = scratch / "config.yaml"
    composed.write_text(yaml.safe_dump(params, allow_unicode=True, sort_keys=False), encoding="utf-8")
    files = {
        "config.yaml": composed,
        "params.yaml": project / "params.yaml",
        "dvc.lock": project / "dvc.lock",
        "report.json": folder / "report/report.json",
        "metrics.json": folder / "evaluation/metrics.json",
        "results.csv": folder / "model/results.csv",
        "best.pt": folder / "model/best.pt",
    }
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise StageError(f"{missing[0]} is missing; `dvc repro` makes it, `dvc pull` fetches it")
    report = json.loads(files["report.json"].read_text(encoding="utf-8"))
    dataset = params["dataset"]
    manifest = {
        **_about(onnx, sha256),
        "thresholds": {
            "overall": metrics["threshold"],
            "classes": {name: figures["threshold"] for name, figures in metrics["classes"].items()},
        },
        "metrics": metrics,
        "verdict": verdict.model_dump(mode="json"),
        **_commit(project),
        "dataset": {
            **{key: dataset[key] for key in ("name", "url", "sha256")},
            **{"pictures": report["pictures"]["kept"], "boxes": report["boxes"]},
        },
        "params": params,
        "libraries": _libraries(),
    }
    if trial:
        manifest["trial"] = trial
    same = {"metrics": sha256_of(files["metrics.json"]), **({"trial": trial} if trial else {})}
    return Release(config.model.name, onnx, files, manifest, same)


def release_of_baseline(file: Path, project: Path, scratch: Path) -> Release:
    """Return a stock pretrained model, exported to ONNX and named after its file; the gate does not judge it.

    Args:
        file: an Ultralytics .pt file of a detector; StoreError for another file.
    Raises:
        StageError: it is no detector, or its name is not valid for a model.
    """
    check_weights(file)
    config, _ = compose(project)
    name = file.stem.lower()
    if not re.fullmatch(MODEL_NAME, name):
        raise StageError(
            f"{file}: {name!r} is no name for a model, expected small letters, digits, '.', '_', '-': rename"
        )
    onnx, sha256 = scratch / "model.onnx", sha256_of(file)
    with redirect_stdout(sys.stderr):  # Ultralytics prints; stdout is for our output
        from runner.stages.offline import ultralytics_offline

        ultralytics_offline(work_folder())
        from runner.stages.export import export_stock

        export_stock(file, config.export, onnx, work=scratch)
    manifest = {
        **_about(onnx, sha256_of(onnx)),
        "thresholds": {"overall": 0.25, "classes": {}},
        "metrics": {},
        "verdict": None,
        "commit": None,
        "work_tree": f"a stock model: {file.name}, sha256 {sha256}",
        "dataset": {},
        "params": {},
        "libraries": _libraries(),
    }
    return Release(name, onnx, {file.name: file}, manifest, {"weights": sha256})


def _about(onnx: Path, sha256: str) -> dict[str, Any]:
    """Return the metadata of the model file."""
    try:
        detector = Detector(onnx)
    except ModelError as error:
        raise StageError(f"{onnx}: {error}; run `dvc repro export`") from error
    height, width = detector.input_hw
    return {
        "onnx_sha256": sha256,
        "classes": detector.classes,
        "imgsz": height if height == width else [height, width],
        "license": detector.metadata.get("license"),
    }


def _commit(project: Path) -> dict[str, str | None]:
    """Return the commit of the work tree, and in words whether it has uncommitted changes."""
    try:
        commit = git(project, "rev-parse", "HEAD")
    except GitError as error:
        return {"commit": None, "work_tree": f"no commit: {error}"}
    status = ("--literal-pathspecs", "status", "--porcelain", "--untracked-files=all", "--", *sources(project))
    try:
        changes = git(project, *status)
    except GitError as error:
        return {"commit": commit, "work_tree": f"changes since are unknown: {error}"}
    changed = [line[3:] for line in changes.splitlines()]
    return {"commit": commit, "work_tree": f"changed since: {', '.join(changed)}" if changed else "as committed"}


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
