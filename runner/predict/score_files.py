"""Files of scores: a row for each picture, as JSON Lines, CSV or Parquet."""

import csv
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import StageError
from runner.workspace import writing

COLUMNS = ("picture", "sha256", "width", "height", "detections", "almost", "margin", "error")


def check_target(target: Path) -> None:
    """Raise StageError for a file with another suffix; ModuleNotFoundError where the suffix needs a missing package."""
    if target.suffix not in _WRITERS:
        raise StageError(f"--to {target}: expected a file that ends in {', '.join(_WRITERS)}")
    if target.suffix == ".parquet":
        importlib.import_module("polars")


def write_scores(lines: Path, target: Path) -> None:
    """Write a file of JSON Lines in the form that the target's suffix says, atomically; memory does not grow with it.

    In CSV, the two lists of detections are JSON.
    """
    with writing(target) as temporary:
        _WRITERS[target.suffix](lines, temporary)


def _write_csv(lines: Path, target: Path) -> None:
    with lines.open(encoding="utf-8") as rows, target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in map(json.loads, rows):
            lists = {name: json.dumps(row[name], ensure_ascii=False) for name in ("detections", "almost")}
            writer.writerow(row | lists)


def _write_parquet(lines: Path, target: Path) -> None:
    import polars as pl  # comes with Ultralytics; a fifth of pyarrow's size

    box = pl.Struct(dict.fromkeys(("x1", "y1", "x2", "y2"), pl.Float32))
    detection = pl.Struct({"label": pl.String, "class_id": pl.Int32, "confidence": pl.Float32, "box": box})
    kinds: list[Any] = [pl.String, pl.String, pl.Int32, pl.Int32, pl.List(detection), pl.List(detection)]
    schema = dict(zip(COLUMNS, [*kinds, pl.Float32, pl.String], strict=True))
    pl.scan_ndjson(lines, schema=schema).sink_parquet(target)


_WRITERS: dict[str, Callable[[Path, Path], object]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": shutil.copyfile,
}
