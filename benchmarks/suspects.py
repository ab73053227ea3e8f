"""How many planted errors `labels suspects` finds: recall in the first 2N suspects, for N errors in 5 % of the boxes.

`python -m benchmarks suspects` draws the sample, `--dataset FILE.zip` takes another dataset. Errors of four kinds are
planted into the labels of all parts, a model is trained on them, and val and test are judged; then other errors are
planted into val and test alone, as often as `--plantings` says, and judged with the same model. `--folds 3` judges
train too, with the first planting. The figures of the model are those on the labels without planted errors.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planting import KINDS, Planted, Rows, label_text, plant, read_labels
from benchmarks.rounds import CORES, FOLDER, markdown, project, runner, spread
from runner.dataset.entries import read_entries, write_entries
from runner.stages.evaluate.metrics import overlaps

SHARE = 0.05  # of the boxes
OVERLAP = 0.5  # lowest overlap of a suspect with the error that it names
#: For photographs, trained from scratch; see docs/results.md.
REAL: dict[str, Any] = {
    "presets": {"augment": "default"},
    "model": {"imgsz": 320},
    "train": {
        "epochs": 50,
        "batch": 8,
        "nbs": 8,
        "cos_lr": False,
        "warmup_epochs": 3.0,
        "warmup_bias_lr": 0.1,
    },
}
Found = list[dict[str, Any]]  # rows of suspects.json


def prepared(folder: Path, dataset: Path | None, params: Mapping[str, Any]) -> dict[str, Rows]:
    """Copy the project and run the stages before the training; return the labels by the picture's path."""
    project(folder, params)
    if dataset:
        runner(folder, "dataset", "add", str(dataset), "--name", "planted")
    for stage in ("compose", "fetch", "prepare", "split"):
        runner(folder, stage)
    return {each["image"]: read_labels(each["labels"]) for each in index(folder)}


def index(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of `prepare`."""
    return read_entries(folder / "artifacts/dataset")


def relabel(folder: Path, labels: Mapping[str, Rows]) -> None:
    """Replace the labels of pictures, by their paths."""
    rows = index(folder)
    for each in rows:
        if each["image"] in labels:
            each["labels"] = label_text(labels[each["image"]])
    write_entries(folder / "artifacts/dataset", rows)


def judge(
    folder: Path,
    labels: Mapping[str, Rows],
    seed: int,
    parts: Sequence[str],
    *,
    only: bool,
    options: Sequence[str] = (),
) -> tuple[list[Planted], Found]:
    """Plant errors and list the suspects; return the errors in the judged parts, and the list.

    `only`: plant into the judged parts alone.
    """
    images = {
        image for part in parts for image in (folder / f"artifacts/split/{part}.txt").read_text("utf-8").splitlines()
    }
    where = {image: rows for image, rows in labels.items() if not only or image in images}
    classes = len((folder / "artifacts/dataset/classes.txt").read_text(encoding="utf-8").splitlines())
    changed, planted = plant(where, classes, SHARE, seed)
    relabel(folder, {**labels, **changed})
    runner(folder, "labels", "suspects", *options)
    found = json.loads((folder / "reports/suspects/suspects.json").read_text(encoding="utf-8"))["suspects"]
    return [each for each in planted if each.image in images], found


def caught(folder: Path, planted: Sequence[Planted], found: Found) -> tuple[Counter[str], Counter[str]]:
    """Return how many errors of each kind are among the first 2N suspects, and how many there are."""
    rows = {Path(each["image"]).name: each for each in index(folder)}
    first = found[: 2 * len(planted)]
    hits: Counter[str] = Counter()
    for error in planted:
        row = rows[Path(error.image).name]
        box = np.array([error.box]) * [row["width"], row["height"], row["width"], row["height"]]
        own = [each["label_box"] or each["model_box"] for each in first if each["sha256"] == row["sha256"]]
        hits[error.kind] += bool(own) and bool((overlaps(box, np.array(own, np.float64)) >= OVERLAP).any())
    return hits, Counter(error.kind for error in planted)


def report(title: str, plantings: Sequence[tuple[Counter[str], Counter[str]]]) -> list[str]:
    """Return a row of the table: the recall of all plantings together, its range, and of each kind."""
    recalls = [hits.total() / all_.total() for hits, all_ in plantings]
    hits = sum((own for own, _ in plantings), Counter[str]())
    planted = sum((own for _, own in plantings), Counter[str]())
    kinds = [f"{hits[kind]} of {planted[kind]}" for kind in KINDS]
    recall = f"{hits.total() / planted.total():.2f}"
    return [title, f"{planted.total()} in {len(recalls)}", recall, spread(recalls), *kinds]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, help="a zip; default: the drawn sample")
    parser.add_argument("--group", help="split.group")
    parser.add_argument("--plantings", type=int, default=10)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=1200, help="of the sample")
    parser.add_argument("--epochs", type=int, help="default: the preset's for the sample, 50 for others")
    parser.add_argument("--rounds", type=int, help="no effect: a training is one")
    options = parser.parse_args(arguments)
    params: dict[str, Any] = REAL if options.dataset else {"dataset": {"sample": {"pictures": options.pictures}}}
    if options.group:
        params = {**params, "split": {"group": options.group}}
    if options.epochs:
        params = {**params, "train": {**params.get("train", {}), "epochs": options.epochs}}
    folder = FOLDER / "suspects"
    labels = prepared(folder, options.dataset, params)
    # The first planting is trained on; so its list is made after the training.
    classes = len((folder / "artifacts/dataset/classes.txt").read_text(encoding="utf-8").splitlines())
    relabel(folder, plant(labels, classes, SHARE, 0)[0])
    seconds = runner(folder, "train")
    runner(folder, "export")
    measured(folder, labels, options.plantings, options.folds, seconds)


def measured(folder: Path, labels: Mapping[str, Rows], plantings: int, folds: int, seconds: float) -> None:
    """Judge with the trained model, and print the figures."""
    judged = ("val", "test")
    rows = []
    runs = [caught(folder, *judge(folder, labels, seed, judged, only=seed > 0)) for seed in range(plantings)]
    rows.append(report("val and test", runs))
    if folds:
        every = ("train", *judged)
        listed = judge(folder, labels, 0, every, only=False, options=["--folds", str(folds)])
        rows.append(report(f"train, val and test, {folds} folds", [caught(folder, *listed)]))
    relabel(folder, labels)
    runner(folder, "evaluate")
    metrics = json.loads((folder / "artifacts/evaluation/metrics.json").read_text(encoding="utf-8"))
    print(f"mAP50 {metrics['map50']:.3f}, mAP50-95 {metrics['map50_95']:.3f} on {metrics['pictures']} test pictures")
    print(f"with right labels; trained with {SHARE:.0%} wrong ones in {seconds:.0f} s\n")
    head = ["judged", "errors in plantings", "recall in the first 2N", "range", *KINDS]
    print(markdown(head, rows, f"{CORES} cores"))


if __name__ == "__main__":
    main()
