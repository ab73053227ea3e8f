"""GateConfig criteria: quality, per-class AP50 against the deployed model, budgets of time and size."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runner.config.schema import GateConfig
from runner.release.resampling import Ranked, ap50, draw, drop_of
from serving.storage.manifest import Finding


class ClassDetections(NamedTuple):
    """Detections of a model on the test part, class by class."""

    classes: dict[str, Ranked]  # those of the dataset that the model knows, by name
    others: list[str]  # classes that the model knows and the dataset does not


def map50(classes: Mapping[str, Ranked]) -> float | None:
    """Return the mean AP50 of the classes that have boxes in test, 0 to 1; None where none has."""
    found = [_ap50(each) for each in classes.values() if each.labelled.sum()]
    return float(np.mean(found)) if found else None


def absolute(candidate: ClassDetections, rules: GateConfig) -> Finding:
    """Judge a model without a deployed one."""
    found = map50(candidate.classes)
    if found is None:
        return _finding("mAP50", "no box in test", passed=False)
    said = f"{found:.3f}, at least {rules.min_map50:.3f} is wanted"
    return _finding("mAP50", said, found, passed=found >= rules.min_map50)


def per_class(
    candidate: ClassDetections, deployed: ClassDetections, rules: GateConfig
) -> tuple[list[Finding], list[str]]:
    """Compare the classes that both models know; return a finding for each, and a line for each class left out."""
    findings: list[Finding] = []
    left_out = [f"{name}: the deployed model knows this class, the dataset does not" for name in deployed.others]
    draws = draw(max(len(each.labelled) for each in candidate.classes.values()), rules.resamples)
    for name, after in candidate.classes.items():
        boxes, before = int(after.labelled.sum()), deployed.classes.get(name)
        if before is None:
            left_out.append(f"{name}: the deployed model does not know this class")
        elif boxes < rules.min_boxes:
            left_out.append(f"{name}: {boxes} boxes in test, and gate.min_boxes is {rules.min_boxes}")
        else:
            drop, margin = drop_of(before, after, draws, rules.confidence)
            new, old = _ap50(after), _ap50(before)
            said = (
                f"{new:.3f} after {old:.3f}, at least {old - rules.max_class_drop - margin:.3f} is wanted "
                f"({rules.max_class_drop:g} may be lost, {margin:.3f} may be chance)"
            )
            findings.append(_finding(f"AP50 of {name}", said, new, old, passed=drop - margin <= rules.max_class_drop))
    return findings, left_out


def budgets(milliseconds: Sequence[float], sizes: Sequence[int], rules: GateConfig) -> list[Finding]:
    """Judge time (median per picture) and size (bytes of model.onnx): the candidate's value, then the deployed's."""
    findings = []
    megabytes = [size / 1e6 for size in sizes]
    judged = ("latency", "ms", milliseconds, rules.max_latency), ("size", "MB", megabytes, rules.max_size)
    for criterion, unit, (new, old), most in judged:
        said = f"{new:.1f} {unit} after {old:.1f} {unit}: {new / old:.2f} times, at most {most:g}"
        findings.append(_finding(criterion, said, new, old, passed=new / old <= most))
    return findings


def _finding(criterion: str, said: str, new: float | None = None, old: float | None = None, *, passed: bool) -> Finding:
    candidate, deployed = (None if each is None else round(each, 6) for each in (new, old))  # as `evaluate` does
    return Finding(criterion=criterion, candidate=candidate, deployed=deployed, said=said, passed=passed)


def _ap50(ranked: Ranked) -> float:
    return float(ap50(ranked, np.ones((1, len(ranked.labelled)), np.int64))[0])
