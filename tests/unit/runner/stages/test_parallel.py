import os
import signal
import sys

import pytest

from runner.errors import StageError
from runner.stages import parallel as module
from runner.stages.parallel import parallel, threads, workers


@pytest.mark.parametrize("kind", ["", "threads", "processes"])
@pytest.mark.parametrize("number", ["1", "2"])
def test_results_come_in_order_when_cores_work(monkeypatch: pytest.MonkeyPatch, number: str, kind: str) -> None:
    monkeypatch.setenv("RUNNER_PARALLEL", kind)
    monkeypatch.setenv("RUNNER_WORKERS", number)
    assert list(parallel(abs, range(-50, 0))) == list(range(50, 0, -1))
    assert list(threads(abs, range(-50, 0), "counting")) == list(range(50, 0, -1))
    assert list(parallel(abs, [])) == list(threads(abs, [], "nothing")) == []


@pytest.mark.parametrize(("given", "number"), [("", 5), ("7", 7)])
def test_workers_are_the_cores_when_nothing_is_said(monkeypatch: pytest.MonkeyPatch, given: str, number: int) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 5)
    monkeypatch.setenv("RUNNER_WORKERS", given)
    assert workers() == number


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        *(({"RUNNER_WORKERS": wrong}, f"RUNNER_WORKERS: found {wrong!r}") for wrong in ("0", "-1", "two", "²")),
        ({"RUNNER_PARALLEL": "cluster"}, "RUNNER_PARALLEL: found 'cluster', expected threads, processes, dask"),
        ({"RUNNER_PARALLEL": "dask"}, "set DASK_SCHEDULER_ADDRESS"),
        *(
            ({"RUNNER_PARALLEL": "dask", "DASK_SCHEDULER_ADDRESS": address}, f"DASK_SCHEDULER_ADDRESS={address}: no")
            for address in ("tcp://127.0.0.1:9", "nonsense://x", "tcp://127.0.0.1")
        ),
    ],
)
def test_refused_when_the_environment_is_wrong(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    if "dask" in environment.values():
        pytest.importorskip("distributed")
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StageError, match=message):
        list(parallel(abs, [1]))


def test_refused_in_time_when_the_scheduler_has_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(module, "_WORKER_SECONDS", 1)
    monkeypatch.setenv("RUNNER_PARALLEL", "dask")
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        with pytest.raises(StageError, match=f"{cluster.scheduler_address}: .* no worker after 1 s"):
            list(parallel(abs, [1]))


def test_the_error_comes_through_when_an_item_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_WORKERS", "2")
    with pytest.raises(TypeError, match="bad operand type for abs"):
        list(parallel(abs, [1, "x", 3]))  # type: ignore[arg-type]


def end_oneself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_refused_with_the_remedy_when_a_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_PARALLEL", "processes")
    monkeypatch.setenv("RUNNER_WORKERS", "2")
    with pytest.raises(StageError, match="RUNNER_WORKERS to fewer than 2"):
        list(parallel(end_oneself, [1, 2]))


def test_refused_with_the_extra_when_dask_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setenv("RUNNER_PARALLEL", "dask")
    with pytest.raises(StageError, match=r"needs Dask: pip install '\.\[dask\]'"):
        list(parallel(abs, [1]))
