"""Gate criteria: quality, per-class AP50 against the deployed model, budgets of time and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runner.config.schema import GateConfig
from runner.release.resampling import Ranked, ap50, draw, drop_of
from runner.release.verdict import Finding


class Shown(NamedTuple):
    """Detections of a model on the test part.

    Attributes:
        classes: those of the dataset that the model knows, by name.
        others: classes that the model knows and the dataset does not.
    """

    classes: dict[str, Ranked]
    others: list[str]


def map50(classes: Mapping[str, Ranked]) -> float | None:
    """Return the mean AP50 of the classes that have boxes in test, 0 to 1; None where none has."""
    found = [_ap50(each) for each in classes.values() if each.labelled.sum()]
    return float(np.mean(found)) if found else None


def absolute(candidate: Shown, rules: GateConfig) -> Finding:
    """Judge a model without a deployed one."""
    found = map50(candidate.classes)
    return Finding(
        criterion="mAP50",
        candidate=_rounded(found),
        deployed=None,
        said="no box in test" if found is None else f"{found:.3f}, at least {rules.min_map50:.3f} is wanted",
        passed=found is not None and found >= rules.min_map50,
    )


def per_class(candidate: Shown, deployed: Shown, rules: GateConfig) -> tuple[list[Finding], list[str]]:
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
            least = _ap50(before) - rules.max_class_drop - margin
            said = (
                f"{_ap50(after):.3f} after {_ap50(before):.3f}, at least {least:.3f} is wanted "
                f"({rules.max_class_drop:g} may be lost, {margin:.3f} may be chance)"
            )
            findings.append(
                Finding(
                    criterion=f"AP50 of {name}",
                    candidate=_rounded(_ap50(after)),
                    deployed=_rounded(_ap50(before)),
                    said=said,
                    passed=drop - margin <= rules.max_class_drop,
                )
            )
    return findings, left_out


def budgets(milliseconds: Sequence[float], sizes: Sequence[int], rules: GateConfig) -> list[Finding]:
    """Judge time and size as ratios to the deployed model's.

    Args:
        milliseconds: median per picture, of the candidate and of the deployed model.
        sizes: bytes of model.onnx, in the same order.
        rules: limits of the ratios.
    """
    megabytes = [size / 1e6 for size in sizes]
    judged = ("latency", "ms", milliseconds, rules.max_latency), ("size", "MB", megabytes, rules.max_size)
    return [
        Finding(
            criterion=criterion,
            candidate=_rounded(after),
            deployed=_rounded(before),
            said=f"{after:.1f} {unit} after {before:.1f} {unit}: {after / before:.2f} times, at most {most:g}",
            passed=after / before <= most,
        )
        for criterion, unit, (after, before), most in judged
    ]


def _ap50(ranked: Ranked) -> float:
    return float(ap50(ranked, np.ones((1, len(ranked.labelled)), np.int64))[0])


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 6)  # as `evaluate` does
