"""Summary of the last run: inputs, results, and time of each stage, for the terminal or as Markdown."""

import json
from pathlib import Path
from typing import Any

import yaml

from runner.config.schema import PARTS
from runner.stages.registry import STAGES, seconds_file
from runner.tables import Row, Table, measured_figure, metric_rows
from runner.workspace import ARTIFACTS, made_by


def summarize(project: Path, *, markdown: bool) -> str:
    """Return the summary of the last run; StageError when it did not finish, or its outputs are not here."""
    folder = project / ARTIFACTS
    with made_by("dvc repro"):
        files = ("report/report.json", "evaluation/metrics.json", "export/difference.json")
        found, metrics, difference = (json.loads((folder / file).read_text(encoding="utf-8")) for file in files)
        values = {
            name: yaml.safe_load((folder / f"config/{name}.yaml").read_text("utf-8")) for name in ("fetch", "train")
        }
        megabytes = (folder / "export/model.onnx").stat().st_size / 1e6
        variants = {file.name: file.stat().st_size / 1e6 for file in folder.glob("export/model.*.onnx")}
    took: list[Row] = [("stage", "seconds")]
    for name in STAGES:
        file = seconds_file(name)
        took.append((name, f"{json.loads(file.read_text()):.1f}" if file.is_file() else "not run here"))
    tables = [
        _went_in(found, values, folder),
        Table("What came out", metric_rows(metrics)),
        Table("How long it took when it last ran", took),
    ]
    text = "\n\n".join(table.as_text(markdown=markdown) for table in tables)
    closing = [
        f"mAP50 {measured_figure(metrics, 'map50')} on {metrics['pictures']} test pictures; "
        f"model.onnx {megabytes:.1f} MB, at most {difference['confidence']:.1g} off the weights in a confidence",
        *(f"{name} {size:.1f} MB; `python -m runner gate` judges it" for name, size in variants.items()),
        f"look at {ARTIFACTS}/report/index.html (the dataset) and {ARTIFACTS}/evaluation/misses/ (the worst misses)",
        "`python -m runner labels suspects` lists and draws the labels that the model contradicts",
    ]
    return text + "\n\n" + "\n".join(f"- {line}" if markdown else line for line in closing)


def _went_in(found: dict[str, Any], values: dict[str, Any], folder: Path) -> Table:
    dataset, train = values["fetch"]["dataset"], values["train"]
    parts = [len((folder / f"split/{part}.txt").read_text("utf-8").splitlines()) for part in PARTS]
    pictures = found["pictures"]
    rows: list[Row] = [
        ("dataset", dataset["url"]),
        ("pictures", f"{pictures['kept']} of {pictures['found']}, {pictures['background']} of them background"),
        ("train, val, test", ", ".join(map(str, parts))),
        ("boxes", ", ".join(f"{count} {name}" for name, count in found["boxes"].items())),
        ("left out", f"{len(found['left_out'])}"),
        ("model", f"{train['model']['base']} at {train['model']['imgsz']} px"),
        ("training", f"up to {train['train']['epochs']} epochs, batch {train['train']['batch']}, seed {train['seed']}"),
    ]
    return Table("What went in", [("", ""), *rows])
