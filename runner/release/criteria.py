"""GateConfig criteria: quality, AP50 of classes by itself and against the deployed model, budgets of time and size."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import GateConfig
from runner.stages.evaluate.resampling import Ranked, ap50, draw, drop_of, only
from serving.storage.manifest import Finding

DEPLOYED, CHAMPION = "the deployed model", "the champion"


class ClassDetections(NamedTuple):
    """Detections of a model on the test part, class by class."""

    classes: dict[str, Ranked]  # those of the dataset that the model knows, by name
    others: list[str]  # classes that the model knows and the dataset does not
    metrics: Mapping[str, Any] = {}  # of `evaluate`, for the intervals; empty where they are not known


def map50(classes: Mapping[str, Ranked]) -> float | None:
    """Return the mean AP50 of the classes that have boxes in test, 0 to 1; None where none has."""
    found = [_ap50(each) for each in classes.values() if each.labelled.sum()]
    return float(np.mean(found)) if found else None


def absolute(candidate: ClassDetections, rules: GateConfig) -> tuple[list[Finding], list[str]]:
    """Judge a model by itself: mAP50, the floors of classes, and classes with too few boxes to be judged."""
    found, left_out = map50(candidate.classes), []
    if found is None:
        return [_finding("mAP50", "no box in test", passed=False)], []
    boxes = sum(int(each.labelled.sum()) for each in candidate.classes.values())
    said = f"{_measured(found, boxes, candidate.metrics)}, at least {rules.min_map50:.3f} is wanted"
    findings = [_finding("mAP50", said, found, passed=found >= rules.min_map50)]
    floors = rules.min_ap50 or {}
    for name, ranked in candidate.classes.items():
        boxes, floor = int(ranked.labelled.sum()), floors.get(name)
        if boxes < rules.min_boxes and name in rules.unjudged:
            left_out.append(f"{name}: {boxes} boxes in test, fewer than gate.min_boxes = {rules.min_boxes}")
        elif boxes < rules.min_boxes:
            said = (
                f"{boxes} in test, at least gate.min_boxes = {rules.min_boxes} are wanted to judge the class: label "
                "more pictures of it, or list it in gate.unjudged"
            )
            findings.append(_finding(f"boxes of {name}", said, passed=False))
        elif floor is not None:
            own = _ap50(ranked)
            said = f"{_measured(own, boxes, _of(candidate, name))}, at least gate.min_ap50 = {floor:.3f} is wanted"
            findings.append(_finding(f"AP50 of {name}, alone", said, own, passed=own >= floor))
    for name in floors.keys() - candidate.classes.keys():
        said = f"the dataset has no such class, expected one of {', '.join(candidate.classes)}; correct gate.min_ap50"
        findings.append(_finding(f"AP50 of {name}, alone", said, passed=False))
    return findings, left_out


def per_class(
    candidate: ClassDetections,
    other: ClassDetections,
    rules: GateConfig,
    unseen: NDArray[np.bool_],
    against: str = DEPLOYED,
) -> tuple[list[Finding], list[str]]:
    """Compare the classes that both models know; return a finding for each, and a line for each class left out.

    Classes with too few boxes in test are `absolute`'s. `unseen` (P,) are the test pictures that neither model was
    trained on: a class with too few boxes in them fails, unless `gate.unjudged` lists it.
    """
    beside = "" if against == DEPLOYED else f" beside {against}"
    findings: list[Finding] = []
    left_out = [f"{name}: {against} knows this class, the dataset does not" for name in other.others]
    draws = draw(int(unseen.sum()), rules.resamples) if unseen.any() else None
    for name, whole in candidate.classes.items():
        if name not in other.classes:
            left_out.append(f"{name}: {against} does not know this class")
        elif whole.labelled.sum() >= rules.min_boxes:
            before, after = only(other.classes[name], unseen), only(whole, unseen)
            boxes = int(after.labelled.sum())
            if draws is None or boxes < rules.min_boxes:
                said = (
                    f"{boxes} of {whole.labelled.sum()} in test are in pictures that {against} was not trained on, "
                    f"at least gate.min_boxes = {rules.min_boxes} are wanted to compare"
                )
                if name in rules.unjudged:
                    left_out.append(f"{name}: {said}")
                else:
                    said += ": keep the pictures' parts, label more, or list the class in gate.unjudged"
                    findings.append(_finding(f"boxes of {name} beside {against}", said, passed=False))
                continue
            drop, margin = drop_of(before, after, draws, rules.confidence)
            new, old = _ap50(after), _ap50(before)
            figures = _of(candidate, name) if unseen.all() else {}
            said = (
                f"{_measured(new, boxes, figures)} after {old:.3f} of {against}, at least "
                f"{old - rules.max_class_drop - margin:.3f} is wanted "
                f"({rules.max_class_drop:g} may be lost, {margin:.3f} may be chance)"
            )
            passed = drop - margin <= rules.max_class_drop
            findings.append(_finding(f"AP50 of {name}{beside}", said, new, old, passed=passed))
    return findings, left_out


def unknown_names(
    candidate: ClassDetections, other: ClassDetections, gone: Sequence[str], against: str = DEPLOYED
) -> list[Finding]:
    """Return a finding that fails where classes are new to a compared model while others of it are `gone`.

    It may be one class under two names, which would go without a comparison.
    """
    new = [name for name in candidate.classes if name not in other.classes]
    if not new or not gone:
        return []
    said = (
        f"{', '.join(new)} of the dataset, and {', '.join(gone)} of {against}: are these new names of the same things? "
        "nothing compares them; say in gate.renamed which new name each has, or none: "
        f"{{{gone[0]}: {new[0]}}}, or {{{gone[0]}: }}"
    )
    return [_finding(f"names of classes beside {against}", said, passed=False)]


def budgets(milliseconds: Sequence[float], sizes: Sequence[int], rules: GateConfig) -> list[Finding]:
    """Judge time (median per picture) and size (bytes of model.onnx): the candidate's, then the deployed's if any.

    Each has a limit of its own, where one is set, and one relative to the deployed model. No time: it is not judged.
    """
    findings = []
    judged = (
        ("latency", "ms", milliseconds, rules.max_ms, rules.max_latency),
        ("size", "MB", [size / 1e6 for size in sizes], rules.max_mb, rules.max_size),
    )
    for criterion, unit, values, ceiling, most in judged:
        new, others = values[0] if values else 0.0, values[1:]
        if values and ceiling is not None:
            said = f"{new:.1f} {unit}, at most {ceiling:g} {unit}"
            findings.append(_finding(f"{criterion}, alone", said, new, passed=new <= ceiling))
        for old in others:
            said = f"{new:.1f} {unit} after {old:.1f} {unit}: {new / old:.2f} times, at most {most:g}"
            findings.append(_finding(criterion, said, new, old, passed=new / old <= most))
    return findings


def _of(model: ClassDetections, name: str) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = model.metrics.get("classes", {}).get(name, {})
    return figures


def _measured(value: float, boxes: int, figures: Mapping[str, Any]) -> str:
    """Return an average precision in words, with the boxes that it rests on, and its interval where that is known."""
    low, high = figures.get("map50_low"), figures.get("map50_high")
    interval = "" if low is None or high is None else f", 95 %: {low:.2f}-{high:.2f}"
    return f"{value:.3f} ({boxes} boxes{interval})"


def _finding(criterion: str, said: str, new: float | None = None, old: float | None = None, *, passed: bool) -> Finding:
    candidate, deployed = (None if each is None else round(each, 6) for each in (new, old))  # as `evaluate` does
    return Finding(criterion=criterion, candidate=candidate, deployed=deployed, said=said, passed=passed)


def _ap50(ranked: Ranked) -> float:
    return float(ap50(ranked, np.ones((1, len(ranked.labelled)), np.int64))[0])
