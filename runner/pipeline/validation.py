"""`evaluate --val`: figures of model.onnx on val, by which a sweep compares its trials; test is for the gate alone."""

import json
from pathlib import Path

import yaml

from runner.config.schema import EvaluateConfig
from runner.stages.evaluate.evaluate import evaluate
from runner.stages.registry import picture_files
from runner.workspace import ARTIFACTS, made_by, scratch

FIGURES = ("map50", "map50_low", "map50_high", "map50_95")


def measure_val(project: Path) -> dict[str, float | None]:
    """Return mAP50 on val with its 95 % interval, and mAP50-95; each 0 to 1, None without boxes in val.

    Measured as `evaluate` measures on test. Nothing in artifacts/ changes. StageError: the stages up to export have not
    run.
    """
    folder = project / ARTIFACTS
    dataset, onnx = folder / "dataset", folder / "export/model.onnx"
    with made_by("dvc repro export"):
        values = yaml.safe_load((folder / "config/evaluate.yaml").read_text(encoding="utf-8"))
        listed = (folder / "split/val.txt").read_text(encoding="utf-8")
        onnx.stat()
    with scratch("validation-") as view:
        split, out = view / "split", view / "out"
        for each in (split, out):
            each.mkdir()
        (split / "test.txt").write_text(listed, encoding="utf-8")  # what is measured; val would choose thresholds
        (split / "val.txt").write_text("", encoding="utf-8")
        evaluate(onnx, dataset, split, EvaluateConfig.model_validate(values["evaluate"]), out, files=picture_files())
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return {name: metrics[name] for name in FIGURES}
