"""The threads that look at pictures: as many as there are cores, with a bounded queue before them."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from serving.errors import Refused

T = TypeVar("T")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Workers:
    """Runs work off the event loop; what finds the queue full is refused at once instead of waiting for long.

    ONNX Runtime, Pillow's decoders and numpy let other threads run meanwhile, so threads use all cores.
    """

    def __init__(self, count: int, *, waiting: int, seconds: float) -> None:
        """Start them.

        Args:
            count: threads.
            waiting: pieces of work that may wait for a thread.
            seconds: how long one may take, waiting included.
        """
        self.count = count
        self._pending = 0
        self._limit = count + waiting
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for a thread now."""
        return max(0, self._pending - self.count)

    def check(self) -> None:
        """Refuse early what would be refused after its body was read.

        Raises:
            Refused: the queue is full.
        """
        if self._pending >= self._limit:
            raise Refused(503, "busy", f"{self.waiting} pictures are waiting already; try again in a second")

    async def run(self, work: Callable[[], T]) -> tuple[T, float]:
        """Do work on a thread.

        Returns:
            its result, and the milliseconds that it waited for a thread.
        Raises:
            Refused: the queue is full, or the time is over; work that has not begun by then is dropped.
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
            raise Refused(503, "busy", f"no answer within {self._seconds:g} s; try again later") from error
        finally:
            self._pending -= 1

    def stop(self) -> None:
        """Finish what is running and drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Cores that this process may use: of the machine, of its affinity, and of the container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no quota, or none that is told here
        return max(1, count)
