"""The newest commit wins."""

import threading
import time
from typing import Any

import pytest

from runner.errors import ClusterError
from runner.retrain.supersede import supersede
from tests.retrain.kubernetes import Api
from tests.unit.runner.retrain.conftest import Login

ENDED = {"conditions": [{"type": "Succeeded", "status": "True"}]}


def newest() -> str:
    return ""


def run(
    api: Api, name: str, *, tasks: tuple[str, ...] = (), ended: bool = False, overrides: str = "[]"
) -> dict[str, Any]:
    children = [{"name": f"{name}-{task}", "pipelineTaskName": task} for task in tasks]
    return api.create(
        "pipelineruns",
        {
            "metadata": {"name": name, "labels": {"flywheel/pipeline": "retrain"}},
            "spec": {"params": [{"name": "overrides", "value": overrides}]},
            "status": {"childReferences": children} | (ENDED if ended else {}),
        },
    )


def cancelled(*runs: dict[str, Any]) -> list[str]:
    return [each["metadata"]["name"] for each in runs if "status" in each["spec"]]


def end_when_cancelled(*runs: dict[str, Any]) -> threading.Thread:
    def controller() -> None:
        while not all("status" in each["spec"] for each in runs):
            time.sleep(0.01)
        for each in runs:
            each["status"] |= ENDED

    thread = threading.Thread(target=controller, daemon=True)
    thread.start()
    return thread


def test_nothing_is_touched_when_no_other_run_is_at_work(api: Api, login: Login) -> None:
    other = run(api, "old", tasks=("publish",), ended=True)
    run(api, "mine")
    newer = run(api, "new")
    supersede(login("supervisor"), "mine", newest, patience=1, poll=0.01)
    assert not cancelled(other, newer)


def test_older_runs_are_cancelled_when_they_have_not_begun_to_publish(api: Api, login: Login) -> None:
    first, second = run(api, "first", tasks=("train-gpu",)), run(api, "second")
    run(api, "mine")
    thread = end_when_cancelled(first, second)
    supersede(login("supervisor"), "mine", newest, patience=10, poll=0.01)
    thread.join()
    assert first["spec"]["status"] == second["spec"]["status"] == "CancelledRunFinally"


def test_an_older_run_is_waited_for_when_it_publishes(
    api: Api, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    publishing = run(api, "first", tasks=("gate", "publish"))
    run(api, "mine")
    timer = threading.Timer(0.3, lambda: publishing["status"].update(ENDED))
    timer.start()
    supersede(login("supervisor"), "mine", newest, patience=10, poll=0.05)
    timer.join()
    assert not cancelled(publishing)
    assert capsys.readouterr().out == "first is older and publishes: waiting for it\n"


def test_refused_when_an_older_run_does_not_end(api: Api, login: Login) -> None:
    run(api, "first", tasks=("publish",))
    run(api, "mine")
    with pytest.raises(ClusterError, match="older runs do not end: first; look at them"):
        supersede(login("supervisor"), "mine", newest, patience=0.05, poll=0.02)


def test_nothing_is_cancelled_when_a_newer_commit_takes_the_place_of_this_one(api: Api, login: Login) -> None:
    other = run(api, "of-the-newer", tasks=("train-gpu",))
    run(api, "mine")
    reason = supersede(login("supervisor"), "mine", lambda: "superseded by 1a2b3c4 x", patience=0.05, poll=0.01)
    assert reason == "superseded by 1a2b3c4 x"
    assert not cancelled(other)


def test_a_trial_goes_on_when_a_push_comes(api: Api, login: Login) -> None:
    trial = run(api, "trial", tasks=("train-gpu",), overrides='["train.epochs=3"]')
    run(api, "mine")
    assert supersede(login("supervisor"), "mine", newest, patience=0.05, poll=0.01) == ""
    assert not cancelled(trial)
