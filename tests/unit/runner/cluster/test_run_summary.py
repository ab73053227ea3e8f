import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from runner.cluster.run_summary import RunSummary, summarize_run
from runner.cluster.runs import TaskOutcome
from runner.store import Store
from runner.store.folder import FolderStore

FIGURES = {"map50": 0.9, "map50_95": 0.5, "precision": 0.8, "recall": 0.7, "threshold": 0.4, "boxes": 30}


def step(name: str, state: str = "done", **results: str) -> TaskOutcome:
    return TaskOutcome(name, state, 61.4, {key.replace("_", "-"): value for key, value in results.items()})


def told(*steps: TaskOutcome, store: Store | None = None, overrides: tuple[str, ...] = ()) -> RunSummary:
    return summarize_run("retrain-abc", "0" * 40, list(overrides), list(steps), store)


PLAN = step("plan", answer="train")
PUBLISHED = step("publish", superseded="", model="things", version="2", pin_mode="push")


def put(store: Store, number: int, *, passed: bool = True, **changes: Any) -> None:
    finding = {"criterion": "mAP50", "said": f"0.{number}00, at least 0.500", "passed": passed}
    verdict = {"passed": passed, "findings": [finding], "left_out": ["nothing | much"], "deployed": None} | changes
    manifest = {
        **{"name": "things", "version": number, "onnx_sha256": hashlib.sha256(b"").hexdigest(), "classes": ["kite"]},
        **{"metrics": {**FIGURES, "map50": number / 10, "classes": {"kite": FIGURES}}, "verdict": verdict},
        "params": {"train": {"epochs": 3}, "prepare": {"max_width": None}},
    }
    store.create(f"models/things/{number}/manifest.json", json.dumps(manifest).encode())


@pytest.mark.parametrize(
    ("steps", "state", "line"),
    [
        ([], "error", "cancelled before it began, by a newer push or by hand"),
        ([step("supersede", "failed", error="it is away")], "error", "supersede: it is away"),
        ([step("supersede", superseded="superseded by 1a x")], "success", "nothing trained: superseded by 1a x"),
        ([step("plan", "failed")], "error", "plan: failed"),
        ([step("plan", "failed", error="params.yaml: x")], "error", "plan: params.yaml: x"),
        ([step("plan", answer="nothing")], "success", "nothing to train: this commit changes no input of a stage"),
        ([PLAN, step("validate", figures='{"map50": 0.9}')], "success", 'a trial of a sweep, on val: {"map50": 0.9}'),
        ([PLAN, step("train-gpu", "cancelled")], "error", "cancelled, by a newer push or by hand"),
        ([PLAN, step("train-gpu", "timed out")], "error", "train-gpu: timed out"),
        ([PLAN, step("prepare")], "error", "cancelled before it published, by a newer push or by hand"),
        (
            [PLAN, step("publish", superseded="superseded by 1a2b3c4 x")],
            "error",
            "not published: superseded by 1a2b3c4 x",
        ),
        ([PLAN, PUBLISHED], "failure", "things 2: published, not pinned"),
        ([PLAN, step("publish", model="things", version="x")], "failure", "things x: published, not pinned"),
        ([PLAN, PUBLISHED, step("pin", said="Lock of it, not pinned")], "failure", "things 2: Lock of it, not pinned"),
        ([PLAN, PUBLISHED, step("pin", said="dev runs it")], "success", "things 2: dev runs it"),
        ([PLAN, PUBLISHED, step("pin", said="not pinned: why")], "failure", "things 2: not pinned: why"),
        ([PLAN, PUBLISHED, step("pin", "failed", error="git push: no")], "error", "pin: git push: no"),
    ],
)
def test_a_line_says_what_became_of_it(steps: list[TaskOutcome], state: str, line: str) -> None:
    found = told(*steps)
    assert (found.state, found.line, found.folder) == (state, line, None)
    assert found.text.startswith(f"## {line}\n")
    if line.endswith("not pinned: why"):  # as it should be, for values by hand
        assert told(*steps, overrides=("train.epochs=3",))[:2] == ("success", line)


def test_the_verdict_is_the_line_when_the_gate_said_no(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    put(store, 2, passed=False)
    found = told(PLAN, PUBLISHED, step("pin", said="Lock of things 2"), store=store)
    assert (found.state, found.line) == ("failure", "things 2 did not pass the gate: mAP50 0.200, at least 0.500")
    assert found.folder == "runs/things/2"


def test_everything_is_in_the_text_when_a_version_was_published(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    put(store, 1)
    put(store, 2, deployed={"model": "things", "version": 1})
    gpu = step("await-gpu", device="cpu", fallback="true")
    pin = step("pin", said="dev runs things 2", staging="opened: https://…/7")
    text = told(PLAN, gpu, PUBLISHED, pin, store=store, overrides=("train.epochs=3",)).text
    for row in (
        "| values of this run alone | train.epochs=3 |",
        "| device | cpu |",
        "| no GPU came | true |",
        "| staging | opened: https://…/7 |",
        "| publish | done | 61 |",
        "| mAP50 | 0.200, at least 0.500 | yes |",
        "| left out | nothing \\| much | - |",
        "| all | 0.100 → 0.200 |",
        "| train.epochs | 3 |",
        "| prepare.max_width |  |",
    ):
        assert row in text, row
    assert f"| model | {tmp_path}/models/things/2 |" in text
