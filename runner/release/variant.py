"""Judgement of a variant beside its float model: loss by the paired bootstrap, and CPU time."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np

from runner.config.schema import GateConfig
from runner.release.criteria import ClassDetections, per_class
from runner.release.timing import milliseconds
from runner.stages.evaluate.examples import Example
from runner.stages.evaluate.metrics import Boxes, Floats, Ids
from runner.stages.evaluate.resampling import Ranked, ap50, draw, rank
from runner.workspace import sha256_of
from serving.storage.manifest import Finding, JudgedVariant
from serving.vision.detector import Detector, on_gpu
from serving.vision.metadata import ModelError
from serving.vision.variants import INT8, int8_instructions

MODEL = "the float model"


def judge_variant(
    kind: str,
    file: Path,
    model: Detector,
    found: Callable[[Detector], list[Boxes]],
    test: Sequence[Example],
    names: Sequence[str],
    metrics: Mapping[str, Any],
    rules: GateConfig,
    *,
    instructions: Sequence[str] | None = None,
) -> JudgedVariant:
    """Judge the variant in `file` beside its float model on the test part.

    `found` runs a detector on `test` and returns the boxes in it, with the class ids of `names`; `metrics` are those of
    `evaluate`. `instructions` are this CPU's (None: as /proc/cpuinfo says); INT8 is refused without any.
    """
    here = list(int8_instructions() if instructions is None else instructions)

    def judged(*findings: Finding) -> JudgedVariant:
        measured = here if kind == INT8 else []
        return JudgedVariant(kind=kind, sha256=sha256_of(file), instructions=measured, findings=list(findings))

    if kind == INT8 and (not here or on_gpu()):
        reason = "this machine has a GPU" if on_gpu() else "this CPU has neither VNNI nor AMX"
        said = f"{reason}, so INT8 cannot be judged here; run the gate on a CPU with VNNI"
        return judged(Finding(criterion="instructions", said=said, passed=False))
    try:
        variant = Detector(file)
        if variant.classes != model.classes:
            raise ModelError(f"its classes are {variant.classes}, the model's {model.classes}")
    except ModelError as error:
        said = f"{file.name}: {error}; run `dvc repro export`"
        return judged(Finding(criterion="file", said=said, passed=False))
    labelled = [example.labelled for example in test]
    thresholds = np.array([metrics["classes"][name]["threshold"] for name in names])

    def ranked(boxes: list[Boxes]) -> list[Ranked]:
        return rank(labelled, boxes, len(names))

    def shown(boxes: list[Boxes]) -> list[Boxes]:
        return [each.take(np.flatnonzero(each.confidences > thresholds[each.class_ids])) for each in boxes]

    before, after = found(model), found(variant)
    old, new = ranked(before), ranked(after)
    weights = np.vstack([np.ones((1, len(test)), np.int64), draw(len(test), rules.resamples)])
    one, other = (ClassDetections(dict(zip(names, each, strict=True)), []) for each in (new, old))
    return judged(
        _map50(old, new, weights, rules),
        *per_class(one, other, rules, np.ones(len(test), np.bool_), MODEL)[0],
        _f1(ranked(shown(before)), ranked(shown(after)), weights, rules),
        *([_cpu_time(model, variant, test, rules)] if kind == INT8 else []),
    )


def _map50(before: Sequence[Ranked], after: Sequence[Ranked], weights: Ids, rules: GateConfig) -> Finding:
    """Compare mAP50: the largest loss that the bootstrap leaves possible must be small, as float costs only time."""
    old, new = (_mean([ap50(each, weights) for each in ranked if each.labelled.sum()]) for ranked in (before, after))
    loss = old - new
    possible = float(np.nanquantile(loss[1:], rules.confidence))
    said = (
        f"{new[0]:.3f} after {old[0]:.3f} of {MODEL}: a loss of {max(possible, 0):.3f} is possible by chance, at most "
        f"{rules.variant.max_drop:g} is allowed"
    )
    return _finding("mAP50", said, new[0], old[0], passed=possible <= rules.variant.max_drop)


def _f1(before: Sequence[Ranked], after: Sequence[Ranked], weights: Ids, rules: GateConfig) -> Finding:
    """Compare F1 at the thresholds: a variant that shifts all confidences keeps its AP50 and loses its detections."""
    old, new = (_mean([_f1_of(each, weights) for each in ranked if each.labelled.sum()]) for ranked in (before, after))
    loss = old - new
    margin = max(0.0, float(loss[0] - np.nanquantile(loss[1:], 1 - rules.confidence)))
    said = (
        f"{new[0]:.3f} after {old[0]:.3f} of {MODEL}, at least {old[0] - rules.max_class_drop - margin:.3f} is wanted "
        f"({rules.max_class_drop:g} may be lost, {margin:.3f} may be chance)"
    )
    return _finding("F1 at the thresholds", said, new[0], old[0], passed=loss[0] - margin <= rules.max_class_drop)


def _f1_of(ranked: Ranked, weights: Ids) -> Floats:
    """Return (draws,) F1 of a class, 0 to 1, from the boxes above its threshold."""
    right = weights[:, ranked.pictures[ranked.right]].sum(axis=1)
    found, labelled = weights[:, ranked.pictures].sum(axis=1), weights @ ranked.labelled
    f1: Floats = 2 * right / np.maximum(found + labelled, 1)
    return np.where(labelled > 0, f1, np.nan)


def _mean(classes: Sequence[Floats]) -> Floats:
    """Return the mean of (draws,) figures over the classes that have boxes in a draw."""
    stacked = np.array(classes)
    mean: Floats = np.nanmean(stacked[:, ~np.isnan(stacked).all(axis=0)], axis=0)
    return mean


def _cpu_time(model: Detector, variant: Detector, test: Sequence[Example], rules: GateConfig) -> Finding:
    old, new = milliseconds([model, variant], test, thread_time)
    ratio = statistics.median(one / other for one, other in zip(old, new, strict=True))
    old_ms, new_ms = statistics.median(old), statistics.median(new)
    said = (
        f"{new_ms:.1f} ms a picture after {old_ms:.1f} ms of {MODEL}: {ratio:.2f} times faster, at least "
        f"{rules.variant.min_speedup:g} is wanted"
    )
    return _finding("CPU time", said, new_ms, old_ms, passed=ratio >= rules.variant.min_speedup)


def _finding(criterion: str, said: str, new: float, old: float, *, passed: bool) -> Finding:
    return Finding(
        criterion=criterion,
        candidate=round(float(new), 6),
        deployed=round(float(old), 6),
        said=said,
        passed=bool(passed),
    )


def refusal(judged: JudgedVariant) -> str:
    """Return in words that a variant is refused, and by which criteria."""
    failed = "; ".join(f"{each.criterion}: {each.said}" for each in judged.findings if not each.passed)
    return f"{judged.kind} is refused ({failed})"
