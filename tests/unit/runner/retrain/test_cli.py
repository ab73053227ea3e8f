from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.__main__ import main
from runner.retrain.await_gpu import Device
from runner.retrain.bot_commit import Pinned
from runner.retrain.cli import TASKS

NEWER = "superseded by 1a2b3c4 x"
VALUES = {"MODE": "auto", "TIMEOUT": "20m", "FALLBACK": "true", "VERSION": "2", "OVERRIDES": "[]"}
OUTCOMES: dict[str, Any] = {
    "cluster.api.Cluster": None,
    "cluster.runs.outcomes_of": [],
    "forge.forges.set_status": False,
    "retrain.argocd.send_push": "told",
    "retrain.await_gpu.await_gpu": Device("cpu", is_fallback=True),
    "retrain.bot_commit.pin": Pinned("0" * 40, "dev runs it"),
    "retrain.bot_commit.propose_for_staging": "opened",
    "retrain.branch.newer_on": "",
    "retrain.supersede.supersede": NEWER,
    "retrain.tasks.plan": "train",
    "retrain.tasks.prepare": None,
    "retrain.tasks.train": None,
    "retrain.tasks.gate": "0" * 64,
    "retrain.tasks.validate": "{}",
    "sweep.record.end_trial": (None, []),
    "retrain.tasks.publish": {"model": "things", "version": "2", "pin_mode": "push"},
}
Task = Callable[..., tuple[int, dict[str, str]]]


def declared(project: Path, name: str) -> Any:
    file = project / f"gitops/pipelines/base/tasks/{name}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]


@pytest.fixture
def task(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """Run a Task with what its YAML and `changes` set; return its status and results. What it calls is replaced."""
    for name, outcome in OUTCOMES.items():
        monkeypatch.setattr(f"runner.{name}", lambda *_, outcome=outcome, **__: outcome)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    results.mkdir()

    def run(name: str, **changes: str) -> tuple[int, dict[str, str]]:
        own = {each["name"]: VALUES.get(each["name"], "some") for each in declared(project, name)["steps"][-1]["env"]}
        known = {"REPO_URL": "some", "BRANCH": "some", "STORE_URI": "store", "RUNNER_RESULTS": str(results)}
        for key, value in (known | own | changes).items():
            monkeypatch.setenv(key, value)
        status = main(["task", name])
        assert list(tmp_path.iterdir()) == [results] or name in ("summary", "sweep")
        return status, {file.name: file.read_text() for file in results.iterdir()}

    return run


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "supersede": {"superseded": NEWER},
        "plan": {"answer": "train"},
        "prepare": {},
        "await-gpu": {"device": "cpu", "fallback": "true"},
        "train": {},
        "gate": {"release": "0" * 64},
        "validate": {"figures": "{}"},
        "publish": {"superseded": "", "model": "things", "version": "2", "pin-mode": "push"},
        "pin": {"said": "dev runs it", "staging": "opened"},
        "summary": {},
        "sweep": {},
    }.items(),
)
def test_the_results_are_the_declared_ones_when_a_task_succeeds(
    project: Path, task: Task, name: str, expected: dict[str, str]
) -> None:
    spec = declared(project, name)
    assert spec["steps"][-1]["script"].splitlines()[-1] == f"exec python -m runner task {name}"
    assert {each["name"] for each in spec["results"]} == {*expected, "error"}
    assert task(name) == (0, expected)


def test_nothing_is_published_when_a_newer_commit_is_there(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.retrain.branch.newer_on", lambda *_: NEWER)
    assert task("publish") == (0, {"superseded": NEWER, "model": "", "version": "", "pin-mode": ""})


@pytest.mark.parametrize("name", ["supersede", "publish"])
def test_a_trial_is_never_superseded(task: Task, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("runner.retrain.branch.newer_on", lambda *_: NEWER)
    status, results = task(name, OVERRIDES='["train.epochs=3"]')
    assert (status, results["superseded"]) == (0, "")


@pytest.mark.parametrize("values", ["{", '"a=1"', "[1]"])
def test_the_reason_is_a_result_when_a_task_fails(task: Task, values: str) -> None:
    status, results = task("plan", OVERRIDES=values)
    assert (status, list(results)) == (1, ["error"])
    assert results["error"].startswith("OVERRIDES:")


@pytest.mark.parametrize(
    ("changes", "gpus"),
    [
        ({}, 0),
        ({"GPU": "none", "GPU_COUNT": "2"}, 0),
        ({"GPU": "fixed", "GPU_COUNT": "2", "MODE": "off"}, 0),
        *(({"GPU": "fixed", "GPU_COUNT": each}, int(each)) for each in ("1", "2", "8")),
    ],
)
def test_the_plan_knows_how_many_gpus_a_training_takes(
    task: Task, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], gpus: int
) -> None:
    monkeypatch.setattr("runner.retrain.tasks.plan", lambda *_, gpus: str(gpus))
    assert task("plan", **changes) == (0, {"answer": str(gpus)})


@pytest.mark.parametrize("name", sorted(TASKS.keys() - {"supersede", "await-gpu"}))
def test_a_task_does_nothing_when_it_does_not_know_the_store(task: Task, name: str) -> None:
    status, results = task(name, STORE_URI="")
    assert (status, list(results)) == (1, ["error"])
    assert "STORE_URI" in results["error"]
