"""Jobs: work whose sender does not wait for the answer. A bounded queue, one at a time; ended ones are kept for a time.

With CAPTURE_URI they are in the store (`captures.job_files`), and every server of an environment answers for each.
Without it they are in the memory of this process, which has to be the only one.
"""

import asyncio
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeVar

from serving.captures.job_files import JobFiles, StoredJob
from serving.captures.writer import RateLimits
from serving.decoding.budget import MemoryBudget
from serving.errors import Refused
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage.objects import StorageError

K = TypeVar("K")
T = TypeVar("T")
log = logging.getLogger(__name__)
POLL_SECONDS = 2  # that a sender should wait between two looks
_BEAT_SECONDS = 5.0  # between two writes of the status of a job that is at work
_SILENT_SECONDS = 60.0  # without such a write, after which its server is taken for dead; servers' clocks differ
_RETRIES_SECONDS = (1.0, 2.0, 4.0, 8.0)  # between attempts to write the end of a job
_STOP_SECONDS = 5.0  # that a stopping server waits for its jobs to end
_BASE_BYTES = 2_000  # of an ended job in memory, without its result
_STOPPED = "the server was stopped before the job had ended; send the video again"


def _too_many(said: str, seconds: int = 30) -> Refused:
    return Refused(429, f"{said}; try again in {seconds} s", "jobs_full", {"Retry-After": str(seconds)})


class Progress:
    """How far work on a video is, and whether it should stop; its thread and the event loop share it."""

    def __init__(self) -> None:
        self.frames = 0  # analysed
        self.share = 0.0  # of the video, 0 to 1
        self.stop = threading.Event()


class Content(NamedTuple):
    """What a job answers."""

    data: bytes
    kind: str  # media type


_Ends = Literal["failed", "cancelled"]
Work = Callable[[Progress], Awaitable[Content]]


@dataclass
class _Job:
    """A job of this process."""

    status: StoredJob
    size: int  # bytes that it holds
    progress: Progress = field(default_factory=Progress)
    result: bytes = b""  # in memory, where there is no store
    over: asyncio.Event = field(default_factory=asyncio.Event)  # whether its work has ended
    task: asyncio.Task[None] | None = None  # once it has begun: a task that is cancelled before does nothing at all
    told: tuple[_Ends, str | None] | None = None  # to end as this, whatever its work gives

    @property
    def at_work(self) -> bool:
        return self.status.state in ("waiting", "running")

    def now(self) -> StoredJob:
        """Return its status as it is now."""
        if not self.at_work:
            return self.status
        parts = {"progress": self.progress.share, "frames": self.progress.frames, "updated": datetime.now(UTC)}
        return self.status.model_copy(update=parts)


class Jobs:
    """The jobs of a server; only for the event loop."""

    def __init__(self, settings: Settings, metrics: Metrics, held: MemoryBudget) -> None:
        """Take the budget of all bodies in memory, of which MAX_JOB_BYTES are a part."""
        #: One video at a time: it takes as long as hundreds of pictures, which must not wait for it.
        self.turn = asyncio.Semaphore(1)
        self._settings, self._metrics = settings, metrics
        uri = settings.capture_uri
        self._files = JobFiles(uri, settings.environment) if uri else None
        self._held, self._budget = held, MemoryBudget(settings.max_job_bytes)
        self._limits = RateLimits(settings.max_jobs_per_hour, settings.max_jobs_per_hour)
        self._keep = timedelta(seconds=settings.job_keep_seconds)
        self._jobs: dict[str, _Job] = {}  # of this process, the oldest first; with a store, those that are at work
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed, self._stopping = False, asyncio.Event()
        metrics.jobs_at_work.set_function(lambda: len(self._at_work()))

    def check(self) -> None:
        """Raise Refused if no job is taken now, before its body is read."""
        settings = self._settings
        if self._files is None and settings.replicas > 1:
            raise Refused(
                501,
                "this server has others beside it, and no store where all would find a job; send the video to "
                "/detect/video, or ask the operator to set CAPTURE_URI",
                "no_store",
            )
        if self._closed:
            raise Refused(503, "the server is about to stop; try again in a second", "not_ready")
        if (count := len(self._at_work())) >= settings.max_jobs:
            raise _too_many(f"{count} videos wait or are analysed already")
        if found := self._limits.full():
            raise _too_many(f"there were {settings.max_jobs_per_hour} jobs within the hour", found[1])

    async def begin(self, size: int, work: Work) -> StoredJob:
        """Queue work on a video of this many bytes; Refused: as `check`, or the store cannot be written."""
        self.check()
        self._forget_old()
        if not self._take(size):
            raise _too_many(f"jobs hold {self._budget.held:,} bytes already")
        now = datetime.now(UTC)
        status = StoredJob(id=secrets.token_hex(16), state="waiting", progress=0, frames=0, created=now, updated=now)
        job = self._jobs[status.id] = _Job(status, size)
        try:
            if self._files:
                await asyncio.to_thread(self._files.remove_older, self._settings.job_keep_seconds)
                await asyncio.to_thread(self._files.save, status)
        except BaseException as error:
            self._drop(job)
            if isinstance(error, StorageError):
                log.error("no job can be begun: %s", error)
                raise Refused(503, "the job cannot be noted in the store; try again later", "storage") from error
            raise
        self._limits.reached()
        task = asyncio.create_task(self._run(job, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job.now()

    async def find(self, job_id: str) -> StoredJob:
        """Return the status of a job; Refused: there is none, or it is gone, or the store cannot be read."""
        self._forget_old()
        if job := self._jobs.get(job_id):
            return job.now()
        found = await self._from_store(self._files.load, job_id) if self._files else None
        silent = datetime.now(UTC) - found.updated if found else timedelta()
        if found is None or silent > self._keep:
            raise Refused(404, "there is no such job, or it is gone", "unknown")
        if found.state in ("waiting", "running") and silent.total_seconds() > _SILENT_SECONDS:
            return found.model_copy(update={"state": "failed", "error": _STOPPED})
        return found

    async def find_done(self, job_id: str) -> StoredJob:
        """Return the status of a job that has a result; Refused: as `find`, or there is no result."""
        found = await self.find(job_id)
        if found.state in ("waiting", "running"):
            said = f"the job is {found.state}, {found.progress:.0%} done; try again in {POLL_SECONDS} s"
            raise Refused(409, said, "not_done", {"Retry-After": str(POLL_SECONDS)})
        if found.state != "done":
            raise Refused(409, f"the job {'was cancelled' if found.state == 'cancelled' else f'failed: {found.error}'}")
        return found

    async def read(self, job: StoredJob) -> bytes:
        """Return the result of a job that is done; Refused: it is gone, or the store cannot be read."""
        if ours := self._jobs.get(job.id):
            return ours.result
        if self._files is None:
            raise Refused(404, "the job is gone", "unknown")
        return await self._from_store(self._files.load_result, job)

    async def cancel(self, job_id: str) -> None:
        """Stop a job, or forget its result; Refused as `find`."""
        await self.find(job_id)
        job = self._jobs.get(job_id)
        if job and job.at_work:
            self._end(job, "cancelled", None)
        elif self._files:
            await self._from_store(self._files.cancel, job_id)
        elif job:
            self._give_back(job, len(job.result))
            job.result, job.status = b"", job.status.model_copy(update={"state": "cancelled"})

    def close(self) -> None:
        """Take no more jobs: the server is told to stop."""
        self._closed = True

    async def stop(self) -> None:
        """End all jobs: their status says that the server was stopped."""
        self.close()
        self._stopping.set()
        for job in self._at_work():
            self._end(job, "failed", _STOPPED)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)

    def _at_work(self) -> list[_Job]:
        return [job for job in self._jobs.values() if job.at_work]

    def _end(self, job: _Job, state: _Ends, error: str | None) -> None:
        if job.told:
            return
        job.told = (state, error)
        job.progress.stop.set()
        if job.task and job.status.state == "waiting":
            job.task.cancel()

    async def _run(self, job: _Job, work: Work) -> None:
        job.task = asyncio.current_task()
        beats = asyncio.create_task(self._beat(job))
        found, error = None, ""
        try:
            if not job.told:
                async with self.turn:
                    job.status = job.status.model_copy(update={"state": "running"})
                    found = await work(job.progress)
        except Refused as refused:
            error = refused.detail
        except asyncio.CancelledError:
            error = _STOPPED
        except Exception:
            log.exception("a bug", extra={"job": job.status.id[:8]})
            error = "the server failed; its log has the reason"
        job.over.set()
        await beats
        await self._finish(job, None if job.told else found, *(job.told or ("failed", error)))

    async def _finish(self, job: _Job, found: Content | None, state: _Ends, error: str | None) -> None:
        """Keep the end of a job: its result, or else the state and the reason."""
        ended = job.now().model_copy(update={"state": state, "error": error})
        if found:
            done = ended.model_copy(update={"state": "done", "progress": 1.0, "error": None})
            ended = done.with_result(found.data, found.kind)
        if self._files is None:
            job.status = self._keep_in_memory(job, found, ended)
        elif await self._store(self._files, ended, found):
            if found and job.told and job.told[0] == "cancelled":  # meanwhile
                await asyncio.to_thread(self._files.cancel, ended.id)
            self._drop(job)
        else:
            self._give_back(job, job.size)
            job.status = ended.model_copy(update={"state": "failed", "error": "its end could not be stored"})
        self._metrics.jobs.labels(ended.state).inc()

    async def _store(self, files: JobFiles, ended: StoredJob, found: Content | None) -> bool:
        """Write a result, then the status that names it; return whether that worked at last."""
        for delay in (*_RETRIES_SECONDS, 0.0):
            try:
                if found:
                    await asyncio.to_thread(files.save_result, ended.id, found.data, found.kind)
                await asyncio.to_thread(files.save, ended)
            except StorageError as problem:
                log.warning("the end of a job cannot be stored: %s", problem, extra={"job": ended.id[:8]})
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay)
            else:
                return True
        return False

    def _keep_in_memory(self, job: _Job, found: Content | None, ended: StoredJob) -> StoredJob:
        """Keep the end of a job in the place of its file, and of the oldest results where there is no room."""
        self._give_back(job, job.size)
        size = _BASE_BYTES + (len(found.data) if found else 0)
        while not self._take(size):
            oldest = next((each for each in self._jobs.values() if not each.at_work), None)
            if oldest is None:
                return ended.model_copy(update={"state": "failed", "error": "there was no memory for its result"})
            self._drop(oldest)
        job.size, job.result = size, found.data if found else b""
        return ended

    async def _beat(self, job: _Job) -> None:
        """Write how far a job is, and look whether another server was told to cancel it, until its work is over."""
        while self._files:
            with suppress(TimeoutError):
                await asyncio.wait_for(job.over.wait(), _BEAT_SECONDS)
                return
            try:
                if await asyncio.to_thread(self._files.is_cancelled, job.status.id):
                    self._end(job, "cancelled", None)
                await asyncio.to_thread(self._files.save, job.now())
            except StorageError as error:
                log.warning("the status of a job cannot be stored: %s", error)

    async def _from_store(self, ask: Callable[[K], T], about: K) -> T:
        try:
            return await asyncio.to_thread(ask, about)
        except StorageError as error:
            log.error("a job cannot be read or cancelled: %s", error)
            raise Refused(503, "the store of the jobs cannot be reached; try again later", "storage") from error

    def _forget_old(self) -> None:
        before = datetime.now(UTC) - self._keep
        for job in list(self._jobs.values()):
            if not job.at_work and job.status.updated < before:
                self._drop(job)

    def _drop(self, job: _Job) -> None:
        del self._jobs[job.status.id]
        self._give_back(job, job.size)

    def _take(self, count: int) -> bool:
        if not self._budget.take(count):
            return False
        if self._held.take(count):
            return True
        self._budget.give_back(count)
        return False

    def _give_back(self, job: _Job, count: int) -> None:
        job.size -= count
        self._budget.give_back(count)
        self._held.give_back(count)
