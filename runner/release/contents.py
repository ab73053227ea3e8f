"""Contents of a version: the candidate in artifacts/ with its run, or a stock pretrained model."""

import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from runner.config.compose import compose, stage_text
from runner.config.override import trial_note
from runner.config.schema import MODEL_NAME, STAGE_KEYS, Config
from runner.dataset.data_yaml import load_mapping
from runner.dataset.weights import check_weights
from runner.errors import GitError, StageError
from runner.forge.git import git
from runner.pipeline.sources import sources
from runner.release.verdict import criteria_of, read_verdict
from runner.stages.evaluate.examples import load
from runner.workspace import ARTIFACTS, made_by, scratch, sha256_of, work_folder
from serving.storage.manifest import Declaration, Manifest, Preprocessing, Thresholds, Variant
from serving.vision.detector import Detector
from serving.vision.metadata import ModelError
from serving.vision.variants import variant_file

LIBRARIES = ("torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow", "faster-coco-eval")
TRAINED = "trained.txt"  # file of a run: the pictures of train and val, by which later comparisons leave them out
RUN_FILES = (
    *("config.yaml", "params.yaml", "dvc.lock", "report.json", "metrics.json", "results.csv", "best.pt"),
    TRAINED,
)
DECLARATION = "declaration.yaml"  # file of the run of a stock model of another family
UNNUMBERED = 0  # version in the manifest of a release, until `claims` numbers it


class Candidate(NamedTuple):
    """The model of the last `dvc repro`: its configuration, the stages' outputs, and the metrics of `evaluate`."""

    config: Config
    folder: Path
    onnx: Path
    metrics: dict[str, Any]
    variant: Path | None  # file of INT8 or FP16; None where export.quantize is none


class Release(NamedTuple):
    """A model with everything to be published."""

    onnx: Path
    files: dict[str, Path]  # of the run, by name in the store; verdict.json and the card follow from the manifest
    manifest: Manifest  # without number, date and the digests of `files`
    same: dict[str, Any]  # identifies the version when it is published again, apart from the verdict
    variant: Path | None = None  # file of the manifest's variant

    @property
    def model_files(self) -> dict[str, Path]:
        """The files whose digests `Manifest.model_files` has, by name."""
        paths = (self.onnx, *([self.variant] if self.variant else []))
        return dict(zip(self.manifest.model_files, paths, strict=True))


def load_candidate(project: Path) -> Candidate:
    """Return the model in artifacts/; StageError when there is none, or params.yaml was changed since."""
    config, _ = compose(project)
    folder = project / ARTIFACTS
    kind = config.export.quantize
    variant = None if kind == "none" else folder / "export" / variant_file(kind)
    with made_by("dvc repro"):
        given = {stage: (folder / f"config/{stage}.yaml").read_text(encoding="utf-8") for stage in STAGE_KEYS}
        metrics = json.loads((folder / "evaluation/metrics.json").read_text(encoding="utf-8"))
        (folder / "export/model.onnx").stat()
    if changed := [stage for stage, text in given.items() if text != stage_text(config, stage)]:
        raise StageError(
            f"{folder}: made before params.yaml, conf/ or the schema changed for {', '.join(changed)}, so the model is "
            "not what they describe; run `dvc repro` first (`python -m runner plan` names the keys)"
        )
    with made_by("dvc repro"):
        if variant:
            variant.stat()
    return Candidate(config, folder, folder / "export/model.onnx", metrics, variant)


@contextmanager
def releasing(project: Path, baseline: Path | None = None, declaration: Path | None = None) -> Iterator[Release]:
    """Give a release until the block ends.

    A `baseline` is a stock detector, and gives the name: an Ultralytics .pt file, or an .onnx, of another family with a
    `declaration` (a file of YAML or JSON, see `serving.storage.manifest.Declaration`); None: the candidate. StageError:
    there is no candidate, the gate has not judged it, or the baseline is no detector; StoreError: it is no weights.
    """
    with scratch("publish-") as work:
        if baseline is None:
            yield _of_run(project, work)
        elif baseline.suffix.lower() == ".onnx" and not baseline.is_file():
            raise StageError(f"{baseline}: there is no such file, expected an .onnx, or a .pt of Ultralytics")
        elif baseline.suffix.lower() == ".onnx":
            yield _of_onnx(baseline, declaration)
        elif declaration:
            raise StageError(f"{baseline}: a declaration is for an .onnx; expected one, or a .pt without a declaration")
        else:
            yield _of_baseline(baseline, project, work)


def _of_run(project: Path, work: Path) -> Release:
    config, folder, onnx, metrics, variant_path = load_candidate(project)
    sha256, variant_sha256 = sha256_of(onnx), sha256_of(variant_path) if variant_path else None
    verdict = read_verdict(work_folder(), sha256, variant_sha256, criteria_of(config.gate))
    params, trial = config.model_dump(mode="json"), trial_note(project)
    composed = work / "config.yaml"
    composed.write_text(yaml.safe_dump(params, allow_unicode=True, sort_keys=False), encoding="utf-8")
    files = {
        "config.yaml": composed,
        "params.yaml": project / "params.yaml",
        "dvc.lock": project / "dvc.lock",
        "report.json": folder / "report/report.json",
        "metrics.json": folder / "evaluation/metrics.json",
        "results.csv": folder / "model/results.csv",
        "best.pt": folder / "model/best.pt",
        TRAINED: folder / "split" / TRAINED,
    }
    with made_by("dvc repro"):
        for each in files.values():
            each.stat()
    report = json.loads(files["report.json"].read_text(encoding="utf-8"))
    thresholds = {name: figures["threshold"] for name, figures in metrics["classes"].items()}
    overridden: dict[str, Any] = {"trial": trial} if trial else {}
    variant: dict[str, Any] = {}
    if (judged := verdict.variant) and judged.passed:
        variant = {"variant": Variant(kind=judged.kind, sha256=judged.sha256, instructions=judged.instructions)}
    manifest = Manifest(
        name=config.model.name,
        version=UNNUMBERED,
        onnx_sha256=sha256,
        **_facts(load(onnx)),
        thresholds=Thresholds(overall=metrics["threshold"], classes=thresholds),
        metrics=metrics,
        verdict=verdict,
        **_commit_of(project),
        dataset={
            **{key: params["dataset"][key] for key in ("name", "url", "sha256")},
            **{"pictures": report["pictures"]["kept"], "boxes": report["boxes"]},
        },
        params=params,
        libraries=_libraries(config.model.trainer),
        gated_by="by hand",  # a cluster's Task writes its run instead
        **variant,
        **overridden,
    )
    return Release(onnx, files, manifest, same_of(manifest, files), variant_path if variant else None)


def same_of(manifest: Manifest, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return what identifies a trained version when it is published again, apart from the verdict."""
    same = {"metrics": sha256_of(files["metrics.json"])}
    if manifest.variant:
        same["variant"] = manifest.variant.sha256
    return same | ({"trial": manifest.trial} if manifest.trial else {})


def _of_baseline(file: Path, project: Path, work: Path) -> Release:
    check_weights(file)
    config, _ = compose(project)
    name = _name_of(file)
    onnx, sha256 = work / "model.onnx", sha256_of(file)
    with redirect_stdout(sys.stderr):  # Ultralytics prints; stdout is for our output
        from runner.stages.export.export import export_stock

        export_stock(file, config.export, onnx, work=work)
    work_tree = f"a stock model: {file.name}, sha256 {sha256}"
    libraries = _libraries("ultralytics")
    manifest = _stock_manifest(name, sha256_of(onnx), _facts(load(onnx)), work_tree=work_tree, libraries=libraries)
    return Release(onnx, {file.name: file}, manifest, {"weights": sha256})


def _of_onnx(file: Path, declaration: Path | None) -> Release:
    """Return a release of an .onnx as it is: its bytes are those of the file."""
    name, declared, files = _name_of(file), None, {}
    if declaration is not None:
        if (content := load_mapping(declaration)) is None:
            raise StageError(f"{declaration}: cannot be read; expected a mapping as YAML or JSON")
        try:
            declared = Declaration.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "content"
            raise StageError(f"{declaration}: {where}: {first['msg']}; docs/releases.md describes the keys") from error
        files = {DECLARATION: declaration}
    try:
        detector = (
            Detector(file, form=declared.preprocessing.form, known=declared.known) if declared else Detector(file)
        )
    except ModelError as error:
        raise StageError(f"{file}: {error}") from error
    facts = _facts(detector)
    if declared:
        facts |= {"preprocessing": declared.preprocessing, "output": declared.output}
        facts |= {"license": declared.license} if declared.license else {}
    same = {"weights": sha256_of(file), **{each: sha256_of(path) for each, path in files.items()}}
    manifest = _stock_manifest(name, same["weights"], facts, work_tree=f"a stock model: {file.name}", libraries={})
    return Release(file, files, manifest, same)


def _name_of(file: Path) -> str:
    name = file.stem.lower()
    if not re.fullmatch(MODEL_NAME, name):
        raise StageError(
            f"{file}: {name!r} is no name for a model, expected small letters, digits, '.', '_', '-': rename"
        )
    return name


def _stock_manifest(
    name: str, onnx_sha256: str, facts: Mapping[str, Any], *, work_tree: str, libraries: dict[str, str]
) -> Manifest:
    return Manifest(
        name=name,
        version=UNNUMBERED,
        onnx_sha256=onnx_sha256,
        **facts,
        thresholds=Thresholds(overall=0.25, classes={}),
        metrics={},
        verdict=None,
        commit=None,
        work_tree=work_tree,
        dataset={},
        params={},
        libraries=libraries,
    )


def _facts(detector: Detector) -> dict[str, Any]:
    """Return what a model says of itself, as the manifest has it."""
    height, width = detector.input_hw
    return {
        "classes": detector.classes,
        "imgsz": height if height == width else [height, width],
        "preprocessing": Preprocessing(input_shape=detector.form.shape, decoding=detector.form.decoding),
        "head": "one_to_one" if detector.end2end else "one_to_many",
        "license": detector.metadata.get("license"),
    }


def _commit_of(project: Path) -> dict[str, Any]:
    """Return the commit of the work tree, and in words whether it has uncommitted changes."""
    commit = None
    try:
        commit = git(project, "rev-parse", "HEAD")
        status = ("--literal-pathspecs", "status", "--porcelain", "--untracked-files=all", "--", *sources(project))
        changes = git(project, *status)
    except GitError as error:
        return {"commit": commit, "work_tree": f"{'changes since are unknown' if commit else 'no commit'}: {error}"}
    changed = [line[3:] for line in changes.splitlines()]
    return {"commit": commit, "work_tree": f"changed since: {', '.join(changed)}" if changed else "as committed"}


def _libraries(trainer: str) -> dict[str, str]:
    """Return name → version of Python and the installed libraries that decide a model's bytes and figures."""
    found = {"python": platform.python_version()}
    for name in (trainer, *LIBRARIES):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
