from typing import Any

import numpy as np
import pytest

from runner.config.schema import ChampionConfig, GateConfig, VariantConfig
from runner.release.criteria import ClassDetections, absolute, budgets, map50, per_class
from runner.stages.evaluate.resampling import Ranked

RULES = GateConfig(
    min_map50=0.5,
    min_ap50=None,
    min_boxes=20,
    unjudged=[],
    renamed={},
    max_class_drop=0.02,
    max_latency=1.5,
    max_size=1.5,
    max_ms=None,
    max_mb=None,
    resamples=500,
    confidence=0.95,
    champion=ChampionConfig(since=1, reason=None),
    variant=VariantConfig(required=False, max_drop=0.02, min_speedup=1.1),
    deploy=False,
    disagreements=0,
)


def rules(**changes: Any) -> GateConfig:
    return GateConfig.model_validate(RULES.model_dump() | changes)


def found(share: float, pictures: int = 100) -> Ranked:
    """One box in each picture, and this share of them found, nothing false: AP50 is about the share."""
    hits = np.flatnonzero(np.random.default_rng(0).random(pictures) < share)
    return Ranked(hits, np.ones(len(hits), bool), np.ones(pictures, np.int64))


def shown(*others: str, **classes: Ranked) -> ClassDetections:
    return ClassDetections(classes, list(others))


def test_no_when_no_box_is_in_test() -> None:
    nothing = Ranked(np.zeros(0, np.intp), np.zeros(0, bool), np.zeros(3, np.int64))
    (finding,), _ = absolute(shown(kite=nothing), rules(min_map50=0.0))
    assert (finding.passed, finding.candidate, finding.said) == (False, None, "no box in test")


@pytest.mark.parametrize(("least", "passed"), [(0.0, True), (0.5, True), (0.99, False), (1.0, False)])
def test_quality_must_suffice_when_judged_alone(least: float, passed: bool) -> None:
    (finding,), _ = absolute(shown(kite=found(0.6), bird=found(0.9)), rules(min_map50=least))
    assert (finding.criterion, finding.passed) == ("mAP50", passed)
    assert finding.candidate == pytest.approx(map50({"kite": found(0.6), "bird": found(0.9)}), abs=1e-6)
    assert finding.said.endswith(f" (200 boxes), at least {least:.3f} is wanted")


def test_a_class_must_reach_its_floor_when_it_has_one() -> None:
    model = shown(kite=found(0.6), bird=found(0.9))._replace(
        metrics={"classes": {"kite": {"map50_low": 0.5, "map50_high": 0.7}}}
    )
    findings, left_out = absolute(model, rules(min_ap50={"kite": 0.8, "bird": 0.8, "bat": 0.1}))
    assert [(each.criterion, each.passed) for each in findings] == [
        *(("mAP50", True), ("AP50 of kite, alone", False), ("AP50 of bird, alone", True), ("AP50 of bat, alone", False))
    ]
    assert "(100 boxes, 95 %: 0.50-0.70), at least gate.min_ap50 = 0.800" in findings[1].said
    assert "kite, bird" in findings[3].said and left_out == []


def test_a_class_of_few_boxes_fails_when_the_rules_do_not_list_it() -> None:
    model = shown(kite=found(0.9, 19), bird=found(0.9))
    (_, finding), left_out = absolute(model, RULES)
    assert (finding.criterion, finding.passed, left_out) == ("boxes of kite", False, [])
    assert "19 in test" in finding.said and "gate.min_boxes = 20" in finding.said and "gate.unjudged" in finding.said
    findings, (line,) = absolute(model, rules(unjudged=["kite"]))
    assert len(findings) == 1 and line.startswith("kite: 19 boxes in test")


@pytest.mark.parametrize(
    ("before", "after", "pictures", "allowed", "passed"),
    [
        (0.9, 0.9, 100, 0.02, True),
        (0.6, 0.9, 100, 0.02, True),
        (0.9, 0.3, 100, 0.02, False),  # clearly worse
        (0.9, 0.85, 20, 0.02, True),  # so few pictures that it may be chance
        (0.9, 0.85, 1000, 0.02, False),  # the same loss is no chance any more
        (0.9, 0.85, 1000, 0.2, True),  # but allowed by the rules
    ],
)
def test_a_class_must_not_lose_when_it_is_not_chance(
    before: float, after: float, pictures: int, allowed: float, passed: bool
) -> None:
    old, new = shown(kite=found(before, pictures)), shown(kite=found(after, pictures))
    (finding,), left_out = per_class(new, old, rules(max_class_drop=allowed), np.ones(pictures, bool))
    assert (finding.criterion, finding.passed, left_out) == ("AP50 of kite", passed, [])
    assert (
        f"{finding.candidate:.3f} ({pictures} boxes) after {finding.deployed:.3f} of the deployed model, at least "
        in finding.said
    )
    assert f"({allowed:g} may be lost, " in finding.said


def test_a_class_is_left_out_and_said_when_it_cannot_be_compared() -> None:
    old = shown("balloon", kite=found(0.9, 19), bird=found(0.9))
    new = shown(kite=found(0.0, 19), bird=found(0.9), drone=found(0.9))
    findings, left_out = per_class(new, old, RULES, np.ones(100, bool))
    assert [each.criterion for each in findings] == ["AP50 of bird"]
    assert left_out == [
        "balloon: the deployed model knows this class, the dataset does not",
        "drone: the deployed model does not know this class",
    ]


@pytest.mark.parametrize(("ratio", "passed"), [(0.5, True), (1.5, True), (1.51, False)])
def test_time_and_size_stay_in_budget_when_the_ratio_does(ratio: float, passed: bool) -> None:
    latency, size = budgets([20 * ratio, 20], [10_000_000, 20_000_000], RULES)
    assert (latency.criterion, latency.passed) == ("latency", passed)
    assert latency.said == f"{20 * ratio:.1f} ms after 20.0 ms: {ratio:.2f} times, at most 1.5"
    assert (size.criterion, size.candidate, size.passed) == ("size", 10.0, True)
    assert not budgets([1, 1], [10_000_000, 6_000_000], RULES)[1].passed


@pytest.mark.parametrize(("most", "passed"), [(25.0, True), (15.0, False)])
def test_time_and_size_stay_below_their_limits_when_nothing_is_deployed(most: float, passed: bool) -> None:
    latency, size = budgets([20.0], [20_000_000], rules(max_ms=most, max_mb=most))
    assert (latency.criterion, latency.passed) == ("latency, alone", passed)
    assert (size.criterion, size.passed) == ("size, alone", passed)
    assert latency.said == f"20.0 ms, at most {most:g} ms"
    assert budgets([], [20_000_000], RULES) == []
