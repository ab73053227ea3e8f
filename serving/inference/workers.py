"""Worker threads for detection: one per core, with a bounded queue."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from serving.errors import Refused

T = TypeVar("T")


class Workers:
    """Runs work off the event loop; a full queue refuses work at once.

    ONNX Runtime, Pillow's decoders and numpy release the GIL, so threads use all cores.
    """

    def __init__(self, count: int, *, waiting: int, seconds: float) -> None:
        """Start the threads, with at most `waiting` tasks in the queue and a time limit of a task, waiting included."""
        self.count = count
        self._pending = 0
        self._limit = count + waiting
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")

    @property
    def waiting(self) -> int:
        """Number of tasks in the queue."""
        return max(0, self._pending - self.count)

    @property
    def idle(self) -> bool:
        """Whether no task is at work or in the queue."""
        return self._pending == 0

    def check(self) -> None:
        """Raise Refused if the queue is full, before the body is read."""
        if self._pending >= self._limit:
            raise Refused(503, f"{self.waiting} pictures are waiting already; try again in a second")

    async def run(self, work: Callable[[], T]) -> tuple[T, float]:
        """Run work on a thread; return its result, and the milliseconds that it waited.

        A full queue or the time limit raises Refused; work not begun by then is dropped.
        """
        self.check()
        start = perf_counter()

        def timed() -> tuple[T, float]:
            waited = perf_counter() - start
            return work(), waited * 1e3

        self._pending += 1
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, timed)
        except TimeoutError as error:
            raise Refused(503, f"no answer within {self._seconds:g} s; try again later") from error
        finally:
            self._pending -= 1

    def stop(self) -> None:
        """Finish running tasks and drop queued ones."""
        self._threads.shutdown(wait=True, cancel_futures=True)
