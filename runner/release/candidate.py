"""Candidate: the model of the last `dvc repro`, which `gate` judges and `publish` publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from runner.config.compose import compose, stage_text
from runner.config.schema import STAGE_KEYS, Config
from runner.errors import StageError
from runner.workspace import ARTIFACTS


class Candidate(NamedTuple):
    """A trained and measured model.

    Attributes:
        config: of params.yaml, equal to the stages' configuration.
        folder: the stages' outputs.
        metrics: of `evaluate`.
    """

    config: Config
    folder: Path
    onnx: Path
    metrics: dict[str, Any]


def load_candidate(project: Path) -> Candidate:
    """Return the model in artifacts/; StageError when there is none, or params.yaml was changed since."""
    config, _ = compose(project)
    folder = project / ARTIFACTS
    try:
        given = {stage: (folder / f"config/{stage}.yaml").read_text(encoding="utf-8") for stage in STAGE_KEYS}
        metrics = json.loads((folder / "evaluation/metrics.json").read_text(encoding="utf-8"))
        (folder / "export/model.onnx").stat()
    except FileNotFoundError as error:
        raise StageError(f"{error.filename} is missing; `dvc repro` makes it, `dvc pull` fetches it") from error
    if changed := [stage for stage, text in given.items() if text != stage_text(config, stage)]:
        raise StageError(
            f"{folder}: made before params.yaml, conf/ or the schema changed for {', '.join(changed)}, so the model is "
            "not what they describe; run `dvc repro` first (`python -m runner plan` names the keys)"
        )
    return Candidate(config, folder, folder / "export/model.onnx", metrics)
