"""Registry of the stages of dvc.yaml: inputs, the function that does the work, and outputs.

Composed files are read and outputs written only here; the functions do not know DVC. A function is imported when its
stage runs, because torch alone takes seconds.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from runner.config import schema
from runner.errors import StageError
from runner.workspace import ARTIFACTS, PARAMS, outputs, project_root, work_folder, write_text

if TYPE_CHECKING:
    from runner.stages.fetch import Origin
    from runner.stages.picture_files import PictureFiles

_PINS = Path("constraints-train.txt")
#: Package versions that decide what a program trains, by `model.trainer`.
PINS = {"ultralytics": (_PINS,), "libreyolo": (_PINS, Path("constraints-libreyolo.txt"))}
INPUTS = (ARTIFACTS / "dataset", ARTIFACTS / "split")  # of train, export and evaluate


class Stage(NamedTuple):
    """A stage: its outputs under artifacts/, and the function that fills them and returns a text to print."""

    outputs: tuple[str, ...]
    fill: Callable[..., str | None]


def run_stage(name: str) -> None:
    """Run one stage as DVC does: from artifacts/config/<name>.yaml to its folders under artifacts/.

    After an error its outputs are unchanged. StageError in a folder that is no project: nothing is written there.
    """
    if not PARAMS.is_file():
        raise StageError(f"{Path.cwd()} has no {PARAMS}; run this in the project's folder")
    stage, started = STAGES[name], time.monotonic()
    with outputs(name, *stage.outputs) as folders:
        text = stage.fill(_values(name), *folders)
    write_text(seconds_file(name), json.dumps(round(time.monotonic() - started, 2)))
    if text:
        print(text, flush=True)


def seconds_file(name: str) -> Path:
    """Return the file with a stage's last duration in seconds; not an output, because it differs in every run."""
    return work_folder() / "seconds" / f"{name}.json"


def _values(name: str) -> dict[str, Any]:
    if name == "compose":
        return {}
    file = ARTIFACTS / "config" / f"{name}.yaml"
    try:
        values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StageError(f"{file} is missing; run `dvc repro {name}`, which composes it first") from error
    return values


def _compose(_: dict[str, Any], config: Path) -> str:
    from runner.config.compose import compose, write_stage_files

    composed, hidden = compose(Path.cwd())
    write_stage_files(composed, config)
    return "\n".join(f"params.yaml sets {key}: {new} (the preset has {preset})" for key, preset, new in hidden)


def _origin() -> "Origin":
    from runner.stages.fetch import Origin

    dataset = _values("fetch")["dataset"]
    sample = schema.SampleConfig.model_validate(dataset["sample"])
    return Origin(dataset["url"], dataset["sha256"], sample, project_root(), work_folder())


def picture_files() -> "PictureFiles":
    """Return the way to the pictures that an index names by their digests; so no stage depends on the way."""
    from runner.stages.picture_files import PictureFiles

    return PictureFiles(_origin(), schema.PrepareConfig.model_validate(_values("prepare")["prepare"]))


def _fetch(_: dict[str, Any], raw: Path) -> str:
    from runner.stages.fetch import fetch

    return fetch(_origin(), raw)


def _prepare(values: dict[str, Any], dataset: Path, report: Path) -> str:
    from runner.stages.fetch import bring_pictures, read_raw
    from runner.stages.prepare.prepare import prepare

    settings, raw = schema.PrepareConfig.model_validate(values["prepare"]), read_raw(ARTIFACTS / "raw")
    bring = partial(bring_pictures, origin=_origin())
    return prepare(raw, values["dataset"]["classes"], settings, dataset, report, work=work_folder(), bring=bring)


def _split(values: dict[str, Any], split: Path) -> str:
    from runner.stages.split import split as split_pictures

    return split_pictures(ARTIFACTS / "dataset", schema.SplitConfig.model_validate(values["split"]), split)


def _train(values: dict[str, Any], model: Path) -> None:
    from runner.stages.train.train import train

    work, base, weights = work_folder(), schema.ModelConfig.model_validate(values["model"]), None
    if base.sha256 is not None:
        from runner.dataset.weights import fetch_weights
        from runner.store import open_store

        weights = fetch_weights(base.base, base.sha256, open_store(project_root()), work)
    train(
        *INPUTS,
        values["seed"],
        base,
        schema.TrainConfig.model_validate(values["train"]),
        schema.AugmentConfig.model_validate(values["augment"]),
        model,
        work=work,
        pins=PINS[base.trainer],
        weights=weights,
        files=picture_files(),
    )


def _export(values: dict[str, Any], folder: Path) -> str:
    from runner.stages.export.export import export

    settings = schema.ExportConfig.model_validate(values["export"])
    trainer, imgsz, files = values["model"]["trainer"], values["model"]["imgsz"], picture_files()
    return export(ARTIFACTS / "model", *INPUTS, trainer, imgsz, settings, folder, work=work_folder(), files=files)


def _evaluate(values: dict[str, Any], evaluation: Path) -> str:
    from runner.stages.evaluate.evaluate import evaluate

    settings = schema.EvaluateConfig.model_validate(values["evaluate"])
    return evaluate(ARTIFACTS / "export" / "model.onnx", *INPUTS, settings, evaluation, files=picture_files())


STAGES: dict[str, Stage] = {
    "compose": Stage(("config",), _compose),
    "fetch": Stage(("raw",), _fetch),
    "prepare": Stage(("dataset", "report"), _prepare),
    "split": Stage(("split",), _split),
    "train": Stage(("model",), _train),
    "export": Stage(("export",), _export),
    "evaluate": Stage(("evaluation",), _evaluate),
}
