"""`evaluate --manifest`: figures of a published version on the test part of this project, such as of a stock model."""

from pathlib import Path

import yaml

from runner.config.schema import EvaluateConfig
from runner.errors import ObjectError
from runner.release.deployed import load_version
from runner.stages.evaluate.evaluate import evaluate
from runner.stages.registry import picture_files
from runner.store.published import locate, parse_version
from runner.store.signatures import check_signature
from runner.workspace import ARTIFACTS, made_by, work_folder
from serving.vision.metadata import ModelError


def measure(project: Path, uri: str) -> str:
    """Return the figures of the version of a manifest, measured as `evaluate` does; nothing in artifacts/ changes.

    Curves, confusion and misses are written to `.work/measured/`. StageError: the stages up to split have not run, or
    the classes are others than the dataset's; ObjectError: the version is missing, damaged or no detector, or
    not signed where signatures are required.
    """
    folder, work = project / ARTIFACTS, work_folder()
    store, key = locate(project, uri)
    version = parse_version(store.read(key), uri)
    check_signature(project, store, version)
    try:
        detector = load_version(store, version, work).detector
    except ModelError as error:
        raise ObjectError(f"{uri}: {error}") from error
    with made_by("dvc repro split"):
        values = yaml.safe_load((folder / "config/evaluate.yaml").read_text(encoding="utf-8"))
        (folder / "split/test.txt").stat()
    out = work / "measured" / f"{version.model}-{version.number}"
    out.mkdir(parents=True, exist_ok=True)
    settings = EvaluateConfig.model_validate(values["evaluate"])
    text = evaluate(detector, folder / "dataset", folder / "split", settings, out, files=picture_files())
    return f"{version.model} {version.number}: {text}\ncurves, confusion and misses are in {out}"
