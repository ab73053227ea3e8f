"""Decoding of what strangers send: charged to one memory budget, and where a deadline can end it.

JPEG in one scan and PNG do work that their pixels bound, and are decoded by the thread that needs them. All other
pictures are decoded by processes (`serving.decoding.program`), which are killed when they take too long, and replaced.
"""

import asyncio
import heapq
import itertools
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from serving.decoding.budget import MemoryBudget, decode_memory
from serving.decoding.process import DecoderProcess, Ended
from serving.decoding.program import TASKS, Reply
from serving.errors import Refused
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.vision.headers import Header, Limits, TooLargeError
from serving.vision.picture import header_of

log = logging.getLogger(__name__)
_SMALL_BYTES = 64_000_000  # memory of a picture that need not queue behind larger ones
_SLACK_BYTES = 12_000_000  # of a decoder, for what does not grow with the picture
_PER_PIXEL = {"fitted": 4, "drawn": 12, "hashed": 5, "upright_jpeg": 8}  # bytes, of the picture and what is made of it
_PER_CPU_SECOND = 60_000_000  # bytes of memory; a decoder fills more than that in a second
_LEAST_CPU_SECONDS = 2


class Elsewhere(Exception):  # noqa: N818 - no error
    """A picture that a decoder process must decode, or that has to wait for memory."""

    def __init__(self, header: Header) -> None:
        super().__init__(header)
        self.header = header


class Job:
    """A task that waits for a decoder, or is done by one."""

    def __init__(self, task: str, data: bytes, arguments: dict[str, Any], memory: int, until: float) -> None:
        self.task, self.data, self.arguments = task, data, arguments
        self.memory = memory  # bytes
        self.until = until  # of `monotonic`
        self.future: Future[Reply] = Future()
        self.given_up = False  # nobody waits for it any more


class Decoding:
    """Decodes pictures for all parts of the server."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        others = settings.max_held_bytes + settings.capture_queue_bytes + settings.recent_bytes
        self.budget = MemoryBudget(settings.decode_memory_bytes or decode_memory(others))
        self._limits = Limits(settings.max_picture_pixels, settings.max_picture_parts, settings.max_picture_scans)
        self._seconds, self._patience = settings.decode_seconds, settings.request_seconds
        self._most_waiting = settings.max_waiting
        self._metrics = metrics
        self._queues: tuple[list[tuple[int, Job]], list[tuple[int, Job]]] = ([], [])  # small and large pictures
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._lanes = [
            threading.Thread(target=self._serve, args=(_order(number, settings.decoders),), name="decoder", daemon=True)
            for number in range(settings.decoders)
        ]
        metrics.decode_memory.set_function(lambda: self.budget.held)

    def start(self) -> None:
        """Start the decoder processes."""
        for lane in self._lanes:
            lane.start()

    def stopped(self) -> bool:
        """Whether the server has stopped, so that work is for nobody."""
        return self._ended.is_set()

    def refuse(self) -> None:
        """End the decoder processes, whatever they do; pictures that wait for one are refused."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        """As `refuse`, and wait for the end."""
        self._ended.set()
        self.refuse()
        for lane in self._lanes:
            if lane.is_alive():
                lane.join(2)

    @contextmanager
    def admitted(self, data: bytes, task: str = "fitted") -> Iterator[None]:
        """Reserve the memory of a picture that this thread decodes in the block.

        Elsewhere: this thread must not, see `send`. PictureError: its headers tell that it cannot be read, or is too
        large.
        """
        header = header_of(data, self._limits)
        memory = self._memory(header, task, data)
        if not header.bounded or not self.budget.take(memory):
            raise Elsewhere(header)
        with self.budget.holding(memory):
            yield

    def send(self, header: Header, task: str, data: bytes, **arguments: Any) -> Job:
        """Queue a task for a decoder process; Refused: too many wait."""
        memory = self._memory(header, task, data)
        job = Job(task, data, arguments, memory, monotonic() + self._patience)
        queue = self._queues[job.memory > _SMALL_BYTES]
        with self._changed:
            if self._stopped.is_set():
                raise _stopping()
            if len(queue) >= self._most_waiting:
                raise Refused(503, f"{len(queue)} pictures wait to be decoded already; try again in a second")
            heapq.heappush(queue, (next(self._numbers), job))
            self._changed.notify_all()
        return job

    async def ask(self, header: Header, task: str, data: bytes, **arguments: Any) -> Reply:
        """Have a task done by a decoder process, which ends when the caller is cancelled. Errors as of `run`."""
        job = self.send(header, task, data, **arguments)
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            job.given_up = True

    def run(self, task: str, data: bytes, **arguments: Any) -> Reply:
        """Do a task, on this thread or in a decoder process; wait for it. PictureError, Refused: as above."""
        try:
            with self.admitted(data, task):
                return TASKS[task](data, **arguments)
        except Elsewhere as elsewhere:
            job = self.send(elsewhere.header, task, data, **arguments)
        return job.future.result()

    def count_ended(self, ended: Ended) -> None:
        """Count a decoder process that did not finish."""
        self._metrics.decoders_ended.labels(ended.reason).inc()

    def _memory(self, header: Header, task: str, data: bytes) -> int:
        """Return the bytes that a task takes, or raise TooLargeError."""
        memory = max(header.memory, header.width * header.height * _PER_PIXEL[task])
        if not header.bounded:  # a decoder process has a copy of the file
            memory += len(data) + _SLACK_BYTES
        if memory > self.budget.limit:
            raise TooLargeError(
                f"a picture of {header.width}x{header.height} pixels in this format needs {memory / 1e6:,.0f} MB to be "
                f"decoded; expected at most {self.budget.limit / 1e6:,.0f} MB, so send a smaller one, or a JPEG"
            )
        return memory

    def _serve(self, order: tuple[int, ...]) -> None:
        """Do the tasks of the queues, the first ones first, with one process after the other."""
        process: DecoderProcess | None = None
        while not self._stopped.is_set():
            try:
                ready = process or DecoderProcess()
            except OSError:
                log.exception("no decoder process could be started; trying again")
                self._stopped.wait(1)
                continue
            process = ready
            if job := self._next(order):
                try:
                    process = self._do(job, ready)
                except Exception as error:
                    log.exception("a bug")
                    ready.kill()
                    process = None
                    _settle(job, error)
        if process:
            process.kill()
        with self._changed:
            for queue in self._queues:
                while queue:
                    _, job = heapq.heappop(queue)
                    _settle(job, _stopping())

    def _next(self, order: tuple[int, ...]) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped.is_set() or any(self._queues[each] for each in order))
            if self._stopped.is_set():
                return None
            queues = [self._queues[each] for each in order if self._queues[each]]
            queue = queues[0] if len(self._lanes) > 1 else min(queues, key=lambda queue: queue[0][0])
            return heapq.heappop(queue)[1]

    def _do(self, job: Job, process: DecoderProcess) -> DecoderProcess | None:
        """Do a task; return the process if it can do another."""
        if job.given_up:
            return process
        if not self.budget.take(job.memory, job.until):
            _settle(job, Refused(503, "too many large pictures at once; try again later"))
            return process
        reply: Reply | Exception
        with self.budget.holding(job.memory):
            if self._stopped.is_set():  # while the task waited for memory
                _settle(job, _stopping())
                return process
            cpu = min(self._seconds, _LEAST_CPU_SECONDS + job.memory // _PER_CPU_SECOND)
            limits = {"memory": job.memory + _SLACK_BYTES, "seconds": cpu}
            try:
                reply = process.ask(
                    {"task": job.task, "arguments": job.arguments, **limits},
                    job.data,
                    job.until,
                    lambda: job.given_up or self._stopped.is_set(),
                )
            except Ended as ended:
                process.kill()
                self.count_ended(ended)
                reply = ended.error(self._patience)
        _settle(job, reply)
        if process.ended:
            return None
        if process.worn:
            process.kill()
            return None
        return process


def _stopping() -> Refused:
    return Refused(503, "the server is about to stop; try again")


def _settle(job: Job, result: Reply | Exception) -> None:
    with suppress(InvalidStateError):  # cancelled, as nobody waits for it
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)


def _order(number: int, decoders: int) -> tuple[int, ...]:
    """Return the queues that a decoder serves: the first one both, the others small pictures alone."""
    return (1, 0) if number == 0 or decoders == 1 else (0,)
