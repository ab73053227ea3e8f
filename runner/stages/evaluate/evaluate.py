"""Evaluation of model.onnx as the server runs it, on the source bytes of the pictures.

Each picture is inferred once, and its output is used twice. Average precision uses all boxes above a confidence of
0.001, with several classes per box allowed, as in Ultralytics' `val`, so that figures are comparable. Thresholds,
precision, recall, confusion and misses use the server's answer: one class per box.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner.config.schema import EvaluateConfig
from runner.stages.evaluate.curves import write_confusion, write_curves
from runner.stages.evaluate.examples import Example, Predictions, class_ids, detect, load, read_part
from runner.stages.evaluate.metrics import (
    FALLBACK,
    THRESHOLDS,
    AveragePrecision,
    Boxes,
    Counts,
    Floats,
    Ids,
    average_precision,
    best_threshold,
    count,
    pairs,
)
from runner.stages.evaluate.misses import Comparison, write_misses
from runner.stages.evaluate.resampling import ap50, draw, interval, rank
from runner.stages.picture_files import PictureFiles
from runner.tables import METRICS, measured_figure
from runner.workspace import write_text
from serving.vision.detector import Detector

DRAWS = 500  # resamples of the test pictures behind an interval
LOWEST_PREDICTION = 0.01  # lowest confidence of boxes in predictions.json


def evaluate(
    model: Path | Detector, dataset: Path, split: Path, settings: EvaluateConfig, out: Path, *, files: PictureFiles
) -> str:
    """Fill `out` with metrics.json, curves, the confusion of classes, predictions and the worst misses.

    metrics.json holds map50, map50_low and map50_high (its 95 % interval by the bootstrap), map50_95, precision,
    recall, threshold, pictures, boxes, the same for each class under `classes`, and `notes`. Everything is measured on
    test. Each class's threshold has the best F1 of that class on val; the overall threshold has the best mean F1 over
    the classes. Precision and recall, 0 to 1, are measured at the threshold beside them; the overall ones are means
    over the classes. A class without boxes in test has null figures and is left out of the means.

    Also written: pr.csv, thresholds.csv and curves.png, confusion.csv and confusion.png (see curves.py),
    predictions.json (boxes per test picture as served, above a confidence of 0.01), misses/ (see misses.py).

    Returns a line with the figures, and a line for each note.
    """
    detector = model if isinstance(model, Detector) else load(model)
    names = (dataset / "classes.txt").read_text(encoding="utf-8").splitlines()
    ids = class_ids(detector.classes, names)
    val, test = (read_part(part, dataset, split, files) for part in ("val", "test"))
    found = list(detect(detector, ids, [*val, *test], settings))
    val_found, test_found = found[: len(val)], found[len(val) :]

    notes: list[str] = []
    chosen = count([e.labelled for e in val], [f.served for f in val_found], len(names), THRESHOLDS)
    thresholds = _thresholds(chosen.f1, chosen.labelled, names, notes)
    labelled = [example.labelled for example in test]
    ranked = average_precision(labelled, [f.everything for f in test_found], len(names), settings.max_detections)
    measured = count(labelled, [f.served for f in test_found], len(names), thresholds)
    notes += [f"{names[i]}: no boxes in test; left out of the means" for i in np.flatnonzero(measured.labelled == 0)]
    intervals = _intervals(labelled, [f.everything for f in test_found], measured.labelled)
    metrics = _metrics(ranked, measured, thresholds, names, intervals) | {"pictures": len(test), "notes": notes}
    answers = []
    for example, (_, served) in zip(test, test_found, strict=True):  # the server's, with each class's threshold
        shown = served.take(np.flatnonzero(served.confidences > thresholds[1:][served.class_ids]))
        answers.append(Comparison(example, shown, pairs(example.labelled, shown)))
    write_text(out / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    write_curves(ranked, chosen, names, out)
    write_confusion(answers, names, out)
    write_text(out / "predictions.json", _predictions(test, test_found, names))
    write_misses(answers, names, settings.worst, out / "misses")
    figures = ", ".join(f"{heading} {measured_figure(metrics, key)}" for key, heading in METRICS.items())
    return "\n".join([f"{figures}; on {metrics['pictures']} test pictures with {metrics['boxes']} boxes", *notes])


def _thresholds(f1: Floats, labelled: Ids, names: Sequence[str], notes: list[str]) -> Floats:
    """Return the overall threshold and then each class's, from (classes, thresholds) F1 on val and boxes per class."""
    present = np.flatnonzero(labelled)
    best = best_threshold(f1[present].mean(axis=0)) if len(present) else None
    if best is None:
        why = "none of its boxes found" if len(present) else "no boxes"
        notes.append(f"val: {why}; default threshold {FALLBACK} for every class")
        return np.full(1 + len(names), FALLBACK)
    chosen = [best]
    for class_id, name in enumerate(names):
        own = best_threshold(f1[class_id])
        if own is None:
            why = "no boxes" if not labelled[class_id] else "none of its boxes found"
            notes.append(f"{name}: {why} in val; its threshold is the overall one, {best:g}")
        chosen.append(best if own is None else own)
    return np.array(chosen)


def _intervals(
    labelled: Sequence[Boxes], found: Sequence[Boxes], boxes: Ids
) -> list[tuple[float, float] | tuple[None, None]]:
    """Return the intervals of mAP50 and of each class's AP50; (None, None) without `boxes` (classes,) in test."""
    if not boxes.any():
        return [(None, None)] * (1 + len(boxes))
    weights, classes = draw(len(labelled), DRAWS), rank(labelled, found, len(boxes))
    drawn = np.array([ap50(each, weights) for each, count in zip(classes, boxes, strict=True) if count])
    overall = drawn[:, ~np.isnan(drawn).all(axis=0)]  # a draw without any box has no mean
    own = iter(drawn)
    each_class = [interval(next(own)) if count else (None, None) for count in boxes]
    return [interval(np.nanmean(overall, axis=0)), *each_class]


def _metrics(
    ranked: AveragePrecision,
    measured: Counts,
    thresholds: Floats,
    names: Sequence[str],
    intervals: Sequence[tuple[float, float] | tuple[None, None]],
) -> dict[str, Any]:
    """Return the figures over all classes and of each.

    `measured`, `thresholds` and `intervals` begin with the overall threshold's.
    """

    def figures(classes: Ids, threshold: int) -> dict[str, float | int | None]:
        low, high = intervals[threshold]
        return {
            "map50": _mean(ranked.map50[classes]),
            "map50_low": low,
            "map50_high": high,
            "map50_95": _mean(ranked.map50_95[classes]),
            "precision": _mean(measured.precision[classes, threshold]),
            "recall": _mean(measured.recall[classes, threshold]),
            "threshold": float(thresholds[threshold]),
            "boxes": int(measured.labelled[classes].sum()),
        }

    present = np.flatnonzero(measured.labelled)
    per_class = {name: figures(present[present == i], 1 + i) for i, name in enumerate(names)}
    return {**figures(present, 0), "classes": per_class}


def _mean(values: Floats) -> float | None:
    """Return the rounded mean; None for no values: a class without boxes has no figures."""
    return round(float(values.mean()), 6) if len(values) else None


def _predictions(examples: Sequence[Example], found: Sequence[Predictions], names: Sequence[str]) -> str:
    """Return JSON, one picture per line: its boxes as served, [class, confidence, x1, y1, x2, y2] in pixels."""
    lines = []
    for example, each in zip(examples, found, strict=True):
        served = each.served.take(np.flatnonzero(each.served.confidences > LOWEST_PREDICTION))
        boxes = [
            [names[class_id], confidence, *(round(side, 1) for side in box)]
            for class_id, confidence, box in zip(
                served.class_ids.tolist(), served.confidences.tolist(), served.xyxy_px.tolist(), strict=True
            )
        ]
        lines.append(f"{json.dumps(example.image, ensure_ascii=False)}: {json.dumps(boxes, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
