import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from serving.errors import Refused
from serving.inference.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    """One worker, one task may wait."""
    workers = Workers(1, waiting=1, seconds=0.5)
    yield workers
    workers.stop()


def test_result_and_waiting_told_when_done(workers: Workers) -> None:
    name, waited_ms = asyncio.run(workers.run(lambda: threading.current_thread().name))
    assert name.startswith("worker") and 0 <= waited_ms < 500
    assert workers.waiting == 0


def test_refused_when_the_queue_is_full(workers: Workers) -> None:
    go = threading.Event()

    async def fill() -> None:
        tasks = [asyncio.create_task(workers.run(go.wait)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert workers.waiting == 1
        with pytest.raises(Refused, match="1 pictures") as caught:
            workers.check()
        assert caught.value.status_code == 503
        go.set()
        await asyncio.gather(*tasks)

    asyncio.run(fill())
    workers.check()


def test_dropped_when_the_time_is_over(workers: Workers) -> None:
    done: list[int] = []

    async def late() -> None:
        slow = asyncio.create_task(workers.run(lambda: time.sleep(1)))
        await asyncio.sleep(0)  # so that it comes first
        for work in (workers.run(lambda: done.append(1)), slow):
            with pytest.raises(Refused, match=r"0\.5 s"):
                await work

    asyncio.run(late())
    workers.stop()
    assert done == []


def test_error_passes_when_work_fails(workers: Workers) -> None:
    for _ in range(3):  # and counts as done
        with pytest.raises(ZeroDivisionError):
            asyncio.run(workers.run(lambda: 1 // 0))
