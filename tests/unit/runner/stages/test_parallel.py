"""Work over cores or a Dask cluster: in order, with the mistakes of the environment named."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import StageError
from runner.stages import parallel as module
from runner.stages.parallel import parallel, threads, workers


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNNER_WORKERS", "RUNNER_PARALLEL", "DASK_SCHEDULER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a Dask cluster of one worker, in a process of its own as on another machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_nothing_comes_back_when_there_are_no_items() -> None:
    assert list(parallel(abs, [])) == []
    assert list(threads(abs, [], "nothing")) == []


@pytest.mark.parametrize("kind", ["", "threads", "processes"])
@pytest.mark.parametrize("number", ["1", "2"])
def test_results_come_in_order_when_cores_work(monkeypatch: pytest.MonkeyPatch, number: str, kind: str) -> None:
    monkeypatch.setenv("RUNNER_PARALLEL", kind)
    monkeypatch.setenv("RUNNER_WORKERS", number)
    assert list(parallel(abs, range(-50, 0))) == list(range(50, 0, -1))


def test_results_come_in_order_when_threads_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_WORKERS", "3")
    assert list(threads(abs, range(-50, 0), "counting")) == list(range(50, 0, -1))


def test_workers_are_the_cores_when_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 5)
    assert workers() == 5
    monkeypatch.setenv("RUNNER_WORKERS", "")
    assert workers() == 5
    monkeypatch.setenv("RUNNER_WORKERS", "7")
    assert workers() == 7


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", " ", "²"])
def test_refused_when_the_number_of_workers_is_none(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("RUNNER_WORKERS", wrong)
    with pytest.raises(StageError, match=f"RUNNER_WORKERS: found {wrong!r}, expected a whole number above 0"):
        list(parallel(abs, [1]))


def test_refused_when_the_kind_of_parallel_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_PARALLEL", "cluster")
    with pytest.raises(StageError, match="RUNNER_PARALLEL: found 'cluster', expected threads, processes, dask"):
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
    with pytest.raises(StageError, match="memory ran out; set RUNNER_WORKERS to fewer than 2 and run again"):
        list(parallel(end_oneself, [1, 2]))


def test_results_come_in_order_when_a_dask_cluster_works(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_PARALLEL", "dask")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", scheduler)
    assert list(parallel(abs, range(-50, 0))) == list(range(50, 0, -1))
    assert list(parallel(abs, [])) == []


def test_refused_when_dask_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setenv("RUNNER_PARALLEL", "dask")
    with pytest.raises(StageError, match="set DASK_SCHEDULER_ADDRESS to the scheduler, such as tcp://host:8786"):
        list(parallel(abs, [1]))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "tcp://127.0.0.1"])
def test_refused_when_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 1)
    monkeypatch.setenv("RUNNER_PARALLEL", "dask")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    with pytest.raises(StageError, match=f"DASK_SCHEDULER_ADDRESS={address}: no scheduler answers there"):
        list(parallel(abs, [1]))


def test_refused_with_the_extra_when_dask_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setenv("RUNNER_PARALLEL", "dask")
    with pytest.raises(StageError, match=r"needs Dask: pip install '\.\[dask\]'"):
        list(parallel(abs, [1]))


def test_paths_may_be_odd_when_files_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_WORKERS", "2")
    path = tmp_path / "für alle"
    path.write_text("x")
    assert list(parallel(Path.read_text, [path, path])) == ["x", "x"]
