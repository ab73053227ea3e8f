"""The plan as text, and its answer; tests/contract/test_reruns.py holds its reasons against `dvc repro`."""

import pytest

from runner.pipeline.plan import IN_WORDS, Plan


def test_text_gives_the_reasons_and_what_the_run_cache_has() -> None:
    reasons = {"fetch": ["größe: 1 → 2", "x changed"], "train": ["fetch runs"]}
    plan = Plan(reasons, ["compose", "fetch", "train"], frozenset({"train"}), ("gate.deploy: true → false",))
    assert plan.as_text().splitlines() == [
        "compose  -",
        "fetch    größe: 1 → 2; x changed",
        "train    fetch runs (in the run cache)",
        "gate     gate.deploy: true → false",
        "at most 1 of 3 stages would run",
        f"answer: {IN_WORDS['gate-only']}",
    ]
    assert Plan({}, ["compose"]).as_text() == f"compose  -\nno stage would run\nanswer: {IN_WORDS['nothing']}"


def test_text_does_not_say_that_nothing_happens_when_compose_runs() -> None:
    counted, answer = Plan({"compose": ["params.yaml changed"]}, ["compose", "train"]).as_text().splitlines()[-2:]
    assert "1 of 2 stages" in counted
    assert "nothing" not in answer


@pytest.mark.parametrize(
    ("runs", "cached", "answer"),
    [
        (["compose"], [], "nothing"),
        (["compose", "evaluate"], [], "gate-only"),
        (["compose", "train", "evaluate"], ["evaluate"], "train"),
        (["compose", "train", "evaluate"], ["train"], "gate-only"),
    ],
)
def test_answer_says_what_a_retrain_has_to_do_when_stages_run(runs: list[str], cached: list[str], answer: str) -> None:
    plan = Plan({stage: ["why"] for stage in runs}, ["compose", "train", "evaluate"], frozenset(cached))
    assert plan.answer == answer
