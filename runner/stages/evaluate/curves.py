"""Curves and confusion matrix, as tables for `dvc plots` and as pictures."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runner.stages.evaluate.metrics import THRESHOLDS, AveragePrecision, Counts
from runner.stages.evaluate.misses import Comparison
from runner.workspace import writing

RATES = ("precision", "recall", "f1")
MOST_NAMED = 12  # classes; with more, the curves are thin, grey and unnamed


def write_curves(test: AveragePrecision, val: Counts, names: Sequence[str], out: Path) -> None:
    """Write pr.csv, thresholds.csv and curves.png, a picture of both.

    pr.csv: recall 0 to 1 in 101 steps, precision (mean over the classes that have boxes), and `precision(<class>)` for
    each of these, on test at an overlap of 0.5. thresholds.csv: threshold in steps of 0.01, and precision, recall and
    f1, means over the classes that have boxes, on val: the effect of another threshold. `val` is counted at THRESHOLDS.
    """
    present = np.flatnonzero(~np.isnan(test.map50))
    recalls = np.linspace(0, 1, 101)
    head = ["recall", "precision", *(f"precision({names[i]})" for i in present)]
    curves = test.curves[:, present]
    rows = [[recall, curve.mean(), *curve] for recall, curve in zip(recalls, curves, strict=True) if len(present)]
    _write_csv(out / "pr.csv", head, rows)

    known = np.flatnonzero(val.labelled)
    every = slice(9, None, 10)
    means = [rates[known].mean(axis=0) for rates in (val.precision, val.recall, val.f1)] if len(known) else []
    trade_off = list(zip(THRESHOLDS[every], *(mean[every] for mean in means), strict=True)) if means else []
    _write_csv(out / "thresholds.csv", ["threshold", *RATES], trade_off)

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    named = len(present) <= MOST_NAMED
    for column, class_id in enumerate(present):
        label = f"{test.map50[class_id]:.3f} {_plain(names[class_id])}" if named else None
        left.plot(recalls, curves[:, column], label=label, **({} if named else {"color": "0.8", "linewidth": 0.7}))
    if len(present):
        mean = curves.mean(axis=1)
        left.plot(recalls, mean, color="black", linewidth=2, label=f"{test.map50[present].mean():.3f} mean")
    _finish(left, "Test: precision and recall (mAP50)", "recall", "precision")
    for name, mean in zip(RATES, means, strict=False):
        right.plot(THRESHOLDS, mean, label=name)
    _finish(right, "Val: mean over classes at a threshold", "threshold", "")
    _save(figure, out / "curves.png")


def write_confusion(comparisons: Sequence[Comparison], names: Sequence[str], out: Path) -> None:
    """Write confusion.csv, a row (actual, predicted) per labelled or found object; and confusion.png, the matrix.

    A missed object has `predicted` background; a false detection has `actual` background.
    """
    kinds = [*names, "background" if "background" not in names else "(background)"]
    found = [
        (
            comparison.example.labelled.class_ids[actual] if actual >= 0 else len(names),
            comparison.found.class_ids[predicted] if predicted >= 0 else len(names),
        )
        for comparison in comparisons
        for actual, predicted in comparison.pairs
    ]
    _write_csv(out / "confusion.csv", ["actual", "predicted"], [[kinds[a], kinds[p]] for a, p in found])

    matrix = np.zeros((len(kinds), len(kinds)), np.int64)
    np.add.at(matrix, tuple(np.array(found, np.int64).reshape(-1, 2).T), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 3 + 0.5 * min(len(kinds), 40)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(kinds)), [_plain(kind) for kind in kinds], rotation=90)
    axes.set_yticks(range(len(kinds)), [_plain(kind) for kind in kinds])
    axes.set(title="Test: objects at each class's threshold", xlabel="predicted", ylabel="actual")
    if len(kinds) <= 30:
        for actual, predicted in np.argwhere(matrix):
            colour = "white" if shares[actual, predicted] > 0.5 else "black"
            axes.text(predicted, actual, str(matrix[actual, predicted]), ha="center", va="center", color=colour)
    _save(figure, out / "confusion.png")


def _plain(name: str) -> str:
    """Return a name escaped for matplotlib: `$` would start a formula."""
    return name.replace("$", r"\$")


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left")


def _save(figure: Figure, path: Path) -> None:
    with writing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # scripts that the font lacks
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Iterable[str | float]]) -> None:
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([cell if isinstance(cell, str) else round(float(cell), 6) for cell in row] for row in rows)
