import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from serving.captures.job_files import JobFiles, StoredJob
from serving.decoding.budget import MemoryBudget
from serving.errors import Refused
from serving.jobs import Content, Jobs, Progress
from serving.monitoring import Metrics
from serving.settings import Settings

ANSWER = Content(b"{}", "application/json")


def jobs_of(held: MemoryBudget | None = None, **settings: Any) -> Jobs:
    return Jobs(Settings(**settings), Metrics(), held or MemoryBudget(1_000_000))


async def quick(progress: Progress) -> Content:
    progress.frames, progress.share = 3, 0.5
    return ANSWER


def gated(gate: asyncio.Event) -> Callable[[Progress], Awaitable[Content]]:
    """Work that ends once the gate is open, or when told to stop."""

    async def work(progress: Progress) -> Content:
        while not (gate.is_set() or progress.stop.is_set()):
            await asyncio.sleep(0.001)
        return ANSWER

    return work


async def ended(jobs: Jobs, job_id: str, *before: str) -> StoredJob:
    """The job, once its state is none of those."""
    async with asyncio.timeout(60):
        while (job := await jobs.find(job_id)).state in (before or ("waiting", "running")):
            await asyncio.sleep(0.001)
    return job


@pytest.fixture(params=["memory", "store"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of jobs in memory, and in a store."""
    return {} if request.param == "memory" else {"capture_uri": str(tmp_path)}


def test_result_kept_and_memory_given_back_when_done(places: dict[str, Any]) -> None:
    async def story() -> None:
        held = MemoryBudget(1_000_000)
        jobs = jobs_of(held, **places)
        job = await jobs.begin(1_000, quick)
        assert (job.state, held.held) == ("waiting", 1_000)
        done = await ended(jobs, job.id)
        assert (done.state, done.progress, done.frames, done.error) == ("done", 1, 3, None)
        assert await jobs.read(await jobs.find_done(job.id)) == b"{}"
        assert held.held < (1 if places else 3_000)
        await jobs.cancel(job.id)
        assert (await jobs.find(job.id)).state == "cancelled"
        with pytest.raises(Refused, match="was cancelled"):
            await jobs.find_done(job.id)

    asyncio.run(story())


def test_one_at_a_time_and_the_waiting_cancelled_when_asked(places: dict[str, Any]) -> None:
    async def story() -> None:
        jobs, gate = jobs_of(**places, max_jobs=3), asyncio.Event()
        first, second, third = [await jobs.begin(10, gated(gate)) for _ in range(3)]
        with pytest.raises(Refused) as full:
            await jobs.begin(10, quick)
        assert (full.value.status_code, full.value.reason) == (429, "jobs_full")
        assert (await ended(jobs, first.id, "waiting")).state == "running"
        assert (await jobs.find(second.id)).state == "waiting"
        with pytest.raises(Refused, match="the job is running"):
            await jobs.find_done(first.id)
        for each in (second, first):  # one that waits, one that is at work
            await jobs.cancel(each.id)
        assert [(await ended(jobs, each.id)).state for each in (first, second)] == ["cancelled"] * 2
        gate.set()
        assert (await ended(jobs, third.id)).state == "done"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("work_error", "said"), [(Refused(415, "not a video"), "not a video"), (ValueError("a bug"), "its log has")]
)
def test_failed_with_the_reason_when_its_work_fails(work_error: Exception, said: str, places: dict[str, Any]) -> None:
    async def fails(progress: Progress) -> Content:
        raise work_error

    async def story() -> None:
        jobs = jobs_of(**places)
        job = await ended(jobs, (await jobs.begin(10, fails)).id)
        assert job.state == "failed" and said in str(job.error)
        with pytest.raises(Refused, match=said):
            await jobs.find_done(job.id)

    asyncio.run(story())


def test_status_says_so_when_the_server_stops(places: dict[str, Any]) -> None:
    async def story() -> None:
        jobs = jobs_of(**places)
        running, waiting = [await jobs.begin(10, gated(asyncio.Event())) for _ in range(2)]
        await ended(jobs, running.id, "waiting")
        begun = await jobs.begin(10, quick)  # in the same moment
        jobs.close()
        with pytest.raises(Refused, match="about to stop"):
            await jobs.begin(10, quick)
        await jobs.stop()
        others = jobs_of(**places) if places else jobs  # another server of the environment
        for each in (running, waiting, begun):
            job = await others.find(each.id)
            assert job.state == "failed" and "stopped" in str(job.error)

    asyncio.run(story())


def stored(state: Any, ago: timedelta, **parts: Any) -> StoredJob:
    then = datetime.now(UTC) - ago
    return StoredJob(id="0" * 32, state=state, progress=0.5, frames=1, created=then, updated=then, **parts)


@pytest.mark.parametrize(
    ("state", "ago", "found"),
    [
        ("running", timedelta(seconds=10), "running"),
        ("running", timedelta(minutes=2), "failed"),  # its server was killed
        ("waiting", timedelta(minutes=2), "failed"),
        ("done", timedelta(minutes=50), "done"),
        ("done", timedelta(minutes=70), 404),
        ("failed", timedelta(minutes=70), 404),
    ],
)
def test_judged_by_its_age_when_another_server_wrote_it(
    state: str, ago: timedelta, found: str | int, tmp_path: Path
) -> None:
    JobFiles(str(tmp_path), "local").save(stored(state, ago))
    jobs = jobs_of(capture_uri=str(tmp_path))
    asked = jobs.find("0" * 32)
    if isinstance(found, str):
        assert asyncio.run(asked).state == found
    else:
        with pytest.raises(Refused) as refused:
            asyncio.run(asked)
        assert refused.value.status_code == found


def test_nothing_trusted_when_it_is_half_written_or_of_another_job(tmp_path: Path) -> None:
    files, jobs = JobFiles(str(tmp_path), "local"), jobs_of(capture_uri=str(tmp_path))
    job = stored(
        "done",
        timedelta(),
    ).with_result(b"{}", "application/json")
    files.save(job)

    async def story() -> None:
        for content in (b"[]", b""):
            files.save_result(job.id, content, "application/json")
            with pytest.raises(Refused) as refused:
                await jobs.read(await jobs.find_done(job.id))
            assert refused.value.status_code == 503
        (tmp_path / "captures/local/jobs" / job.id / "status.json").write_text('{"state": "do')
        with pytest.raises(Refused) as refused:
            await jobs.find(job.id)
        assert refused.value.status_code == 503
        with pytest.raises(Refused) as refused:
            await jobs.find("1" * 32)
        assert refused.value.status_code == 404

    asyncio.run(story())


def test_oldest_result_gone_when_memory_is_full() -> None:
    async def large(progress: Progress) -> Content:
        return Content(bytes(40_000), "video/mp4")

    async def story() -> None:
        held = MemoryBudget(1_000_000)
        jobs = jobs_of(held, max_job_bytes=100_000)
        made = [await ended(jobs, (await jobs.begin(10_000, large)).id) for _ in range(3)]
        assert [job.state for job in made] == ["done"] * 3
        with pytest.raises(Refused, match="no such job"):
            await jobs.find(made[0].id)
        assert len(await jobs.read(made[2])) == 40_000 and held.held <= 100_000
        with pytest.raises(Refused, match="jobs hold"):
            await jobs.begin(90_000, quick)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("settings", "statuses"),
    [
        ({"replicas": 2}, [501, 501]),
        ({"replicas": 2, "capture_uri": "store"}, [202, 202]),
        ({"max_jobs_per_hour": 1}, [202, 429]),
    ],
)
def test_refused_when_no_server_could_answer_or_there_were_too_many(
    settings: dict[str, Any], statuses: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def story() -> list[int]:
        jobs, found = jobs_of(**settings), []
        for _ in statuses:
            try:
                await ended(jobs, (await jobs.begin(10, quick)).id)
                found.append(202)
            except Refused as refused:
                found.append(refused.status_code)
        return found

    assert asyncio.run(story()) == statuses


def test_folders_of_old_jobs_removed_when_a_new_one_begins(tmp_path: Path) -> None:
    files = JobFiles(str(tmp_path), "local")
    files.save(stored("done", timedelta()))
    files.remove_older(60)
    assert files.load("0" * 32)
    files.remove_older(-60)
    assert files.load("0" * 32) is None
