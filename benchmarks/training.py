"""What `dvc repro` adds to a training, beside `yolo train` with the same settings; and what nothing to do costs.

`python -m benchmarks training` trains on the drawn sample, on the CPU, and needs the extra `train`. Ultralytics itself
takes all cores but one; it is measured so, and with all cores as ours. Everything counts, from the start of the command
to its end.
"""

import argparse
import csv
import shutil
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.rounds import CORES, FOLDER, PROJECT, in_turn, project, table, took
from runner.dataset.entries import read_entries
from runner.dataset.picture_cache import cache_folder

OURS = "`dvc repro` (stage train)"
DVC = (sys.executable, "-m", "dvc")


def ours(folder: Path) -> float:
    """Train with DVC from scratch; return the seconds."""
    shutil.rmtree(folder / ".work/train", ignore_errors=True)
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)
    return took(*DVC, "repro", "--single-item", "--force", "train", cwd=folder)


def yolo(folder: Path, threads: str) -> float:
    """Train with Ultralytics' command; return the seconds."""
    peer = folder / ".work/peer"
    shutil.rmtree(peer, ignore_errors=True)
    data = as_ultralytics(folder, peer / "data", ["train", "val"])
    values = yaml.safe_load((folder / "artifacts/config/train.yaml").read_text(encoding="utf-8"))
    settings: dict[str, Any] = {
        **values["train"],
        **values["augment"],
        "model": values["model"]["base"],
        "imgsz": values["model"]["imgsz"],
        "seed": values["seed"],
        "data": data,
        "deterministic": True,
        "device": "cpu",
        "workers": CORES,
        "project": peer,
        "name": "run",
        "plots": True,
    }
    return ultralytics(folder / ".work/settings", threads, "train", **settings)


def ultralytics(folder: Path, threads: str, mode: str, **settings: object) -> float:
    """Run Ultralytics' command, whose own settings are in a folder; return the seconds."""
    arguments = [f"{key}={value}" for key, value in settings.items()]
    return took(sys.executable, "-m", "benchmarks.yolo", str(folder), threads, mode, *arguments, cwd=PROJECT)


def as_ultralytics(folder: Path, data: Path, parts: list[str]) -> Path:
    """Copy pictures and labels to where Ultralytics may write its caches; return a data.yaml with the parts."""
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    for entry in read_entries(folder / "artifacts/dataset"):
        sha256, _ = entry["encoded"] or (entry["sha256"], 0)
        shutil.copyfile(cache_folder(folder / ".work") / sha256, data / entry["image"])
        (data / "labels" / f"{Path(entry['image']).stem}.txt").write_text(entry["labels"], encoding="utf-8")
    described = yaml.safe_load((folder / "artifacts/split/data.yaml").read_text(encoding="utf-8")) | {"path": str(data)}
    for part in parts:
        lines = (folder / f"artifacts/split/{part}.txt").read_text(encoding="utf-8").splitlines()
        (data / f"{part}.txt").write_text("".join(f"{data / line}\n" for line in lines), encoding="utf-8")
    (data / "data.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    return data / "data.yaml"


def empty_graph(folder: Path) -> Path:
    """Copy the project with stages that only write a line, and run them: DVC's own time for this graph."""
    project(folder, {})
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in pipeline["stages"].values():
        outs = [Path(out if isinstance(out, str) else next(iter(out))) for out in stage["outs"]]
        files = [out if out.suffix else out / "made" for out in outs]
        stage["cmd"] = " && ".join(f"mkdir -p {file.parent} && echo {file} > {file}" for file in files)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    took(*DVC, "repro", cwd=folder)
    return folder


def last_map50(results: Path) -> str:
    """Return mAP50 of the last epoch, as Ultralytics wrote it."""
    with results.open(encoding="utf-8") as file:
        return [row["metrics/mAP50(B)"] for row in csv.DictReader(file)][-1]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args(arguments)
    root = FOLDER / "training"
    sample = {"dataset": {"sample": {"pictures": options.pictures}}}
    folder = project(root / "flywheel", sample | {"train": {"epochs": options.epochs}})
    took(*DVC, "repro", "split", cwd=folder)
    contestants: dict[str, Callable[[], float]] = {
        OURS: partial(ours, folder),
        f"`yolo train`, {CORES} threads": partial(yolo, folder, str(CORES)),
        "`yolo train`, its own number of threads": partial(yolo, folder, "own"),
    }
    print(table(f"{options.epochs} epochs", in_turn(contestants, options.rounds)))
    yolo_results = folder / ".work/peer/run/results.csv"
    print(f"mAP50 at the end: ours {last_map50(folder / 'artifacts/model/results.csv')}, the last peer", end=" ")
    print(last_map50(yolo_results), end="\n\n", flush=True)

    took(*DVC, "repro", cwd=folder)
    empty = empty_graph(root / "empty")
    nothing = in_turn(
        {
            "`dvc repro` when nothing changed": partial(took, *DVC, "repro", cwd=folder),
            "the same graph of empty stages": partial(took, *DVC, "repro", cwd=empty),
        },
        3 * options.rounds,
    )
    print(table("nothing to do", nothing))
    mine, bare = nothing.values()
    added = statistics.median(one - other for one, other in zip(mine, bare, strict=True))
    print(f"our stages add {added:+.2f} s\n")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
