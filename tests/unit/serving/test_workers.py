"""Workers: bounded, off the event loop, and work that nobody waits for any more is dropped."""

import asyncio
import threading
import time

import pytest

from serving.errors import Refused
from serving.workers import Workers, cores


def test_result_and_waiting_told_when_done() -> None:
    workers = Workers(1, waiting=1, seconds=5)
    assert asyncio.run(workers.run(lambda: threading.current_thread().name))[0].startswith("worker")
    assert workers.waiting == 0
    workers.stop()


def test_refused_when_the_queue_is_full() -> None:
    workers = Workers(1, waiting=1, seconds=5)
    go = threading.Event()

    async def fill() -> None:
        tasks = [asyncio.create_task(workers.run(go.wait)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert workers.waiting == 1
        with pytest.raises(Refused, match="waiting already") as caught:
            workers.check()
        assert caught.value.status == 503
        go.set()
        await asyncio.gather(*tasks)

    asyncio.run(fill())
    workers.check()
    workers.stop()


def test_dropped_when_the_time_is_over() -> None:
    workers = Workers(1, waiting=5, seconds=0.1)
    done: list[int] = []

    async def late() -> None:
        slow = asyncio.create_task(workers.run(lambda: time.sleep(0.3)))
        await asyncio.sleep(0)  # so that it comes first
        with pytest.raises(Refused, match=r"no answer within 0\.1 s"):
            await workers.run(lambda: done.append(1))
        with pytest.raises(Refused, match=r"no answer within 0\.1 s"):
            await slow

    asyncio.run(late())
    workers.stop()
    assert done == []


def test_error_passes_when_work_fails() -> None:
    workers = Workers(1, waiting=0, seconds=5)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(workers.run(lambda: 1 // 0))
    workers.check()
    workers.stop()


def test_at_least_one_core_when_counted() -> None:
    assert cores() >= 1
