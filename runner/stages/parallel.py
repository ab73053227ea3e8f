"""Parallel map over all cores, or over a Dask cluster when RUNNER_PARALLEL=dask.

Threads by default: decoding, resizing and encoding release the GIL, and each process would cost a second to start and
its own memory. `RUNNER_PARALLEL=processes` helps when the interpreter crashes. `RUNNER_WORKERS` limits both (default:
the cores this process may use). With Dask, `DASK_SCHEDULER_ADDRESS` names the scheduler, and its workers must see the
project's folder under the same path.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any, TypeVar

from tqdm import tqdm

from runner.errors import StageError
from serving.vision.cores import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
KINDS = ("threads", "processes", "dask")
_TIMEOUT_SECONDS = 10
_BATCH = 10_000  # [items] that wait for a thread: each waiting one takes 1.4 kB
_WORKER_SECONDS = 60  # new pods and nodes take that long


def workers() -> int:
    """Return RUNNER_WORKERS, a whole number above 0, or the number of available cores."""
    text = os.environ.get("RUNNER_WORKERS") or str(available_cores())
    if not text.isdecimal() or int(text) < 1:
        raise StageError(f"RUNNER_WORKERS: found {text!r}, expected a whole number above 0")
    return int(text)


def parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the results in the order of the items, as they become ready.

    StageError: RUNNER_WORKERS or RUNNER_PARALLEL is wrong, no scheduler answers, or a worker was killed.
    """
    kind = os.environ.get("RUNNER_PARALLEL") or "threads"
    if kind not in KINDS:
        raise StageError(f"RUNNER_PARALLEL: found {kind!r}, expected {', '.join(KINDS)}")
    if kind == "threads":
        with ThreadPoolExecutor(workers()) as pool:
            for start in range(0, len(items), _BATCH):
                yield from pool.map(function, items[start : start + _BATCH])
        return
    import joblib

    with ExitStack() as stack:
        if kind == "dask":
            stack.enter_context(_dask_client())
            stack.enter_context(joblib.parallel_config(backend="dask"))
        pool = joblib.Parallel(n_jobs=workers(), return_as="generator", batch_size="auto")
        try:
            yield from pool(joblib.delayed(function)(item) for item in items)
        except BrokenProcessPool as error:
            raise StageError(
                "a worker was killed, most likely because memory ran out; set RUNNER_WORKERS to fewer than "
                f"{workers()} and run again: finished pictures are kept"
            ) from error


def threads(function: Callable[[Item], Result], items: Sequence[Item], what: str) -> Iterator[Result]:
    """Yield the results in the order of the items, from threads; for work that waits for disk or network."""
    with ThreadPoolExecutor(2 * workers()) as pool:
        yield from tqdm(pool.map(function, items), total=len(items), desc=what, disable=None)


def _dask_client() -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise StageError("RUNNER_PARALLEL=dask needs Dask: pip install '.[dask]'") from error
    if not (address := os.environ.get("DASK_SCHEDULER_ADDRESS")):
        raise StageError("RUNNER_PARALLEL=dask: set DASK_SCHEDULER_ADDRESS to the scheduler, such as tcp://host:8786")
    try:
        client = Client(address, timeout=_TIMEOUT_SECONDS)
    except (OSError, ValueError) as error:
        raise StageError(f"DASK_SCHEDULER_ADDRESS={address}: no scheduler answers there ({error})") from error
    try:
        client.wait_for_workers(1, timeout=_WORKER_SECONDS)
    except TimeoutError as error:
        client.close()
        raise StageError(
            f"DASK_SCHEDULER_ADDRESS={address}: the scheduler has no worker after {_WORKER_SECONDS} s; "
            f"start one (`dask worker {address}`) with the project's folder under the same path"
        ) from error
    return client
