"""The newest push wins."""

import threading
import time
from typing import Any

import pytest

from runner.errors import ClusterError
from runner.retrain.supersede import supersede
from tests.retrain.kubernetes import Api
from tests.unit.runner.retrain.conftest import Login

ENDED = {"conditions": [{"type": "Succeeded", "status": "True"}]}


def run(api: Api, name: str, *, tasks: tuple[str, ...] = (), ended: bool = False) -> dict[str, Any]:
    children = [{"name": f"{name}-{task}", "pipelineTaskName": task} for task in tasks]
    return api.create(
        "pipelineruns",
        {
            "metadata": {"name": name, "labels": {"flywheel/pipeline": "retrain"}},
            "spec": {},
            "status": {"childReferences": children} | (ENDED if ended else {}),
        },
    )


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
    supersede(login("supervisor"), "mine", patience=1, poll=0.01)
    assert other["spec"] == newer["spec"] == {}


def test_older_runs_are_cancelled_when_they_have_not_begun_to_publish(api: Api, login: Login) -> None:
    first, second = run(api, "first", tasks=("train-gpu",)), run(api, "second")
    run(api, "mine")
    thread = end_when_cancelled(first, second)
    supersede(login("supervisor"), "mine", patience=10, poll=0.01)
    thread.join()
    assert first["spec"] == second["spec"] == {"status": "CancelledRunFinally"}


def test_an_older_run_is_waited_for_when_it_publishes(
    api: Api, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    publishing = run(api, "first", tasks=("gate", "publish"))
    run(api, "mine")
    timer = threading.Timer(0.3, lambda: publishing["status"].update(ENDED))
    timer.start()
    supersede(login("supervisor"), "mine", patience=10, poll=0.05)
    timer.join()
    assert publishing["spec"] == {}
    assert capsys.readouterr().out == "first is older and publishes: waiting for it\n"


def test_refused_when_an_older_run_does_not_end(api: Api, login: Login) -> None:
    run(api, "first", tasks=("publish",))
    run(api, "mine")
    with pytest.raises(ClusterError, match="older runs do not end: first; look at them"):
        supersede(login("supervisor"), "mine", patience=0.05, poll=0.02)
