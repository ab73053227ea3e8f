"""Jobs in the store, where every server of an environment finds them.

    captures/<environment>/jobs/<id>/status.json   its state, when that was written, and of what the result is
    captures/<environment>/jobs/<id>/result        written before the status that names its digest
    captures/<environment>/jobs/<id>/cancelled     somebody took it back, at whatever server

A bucket's lifecycle rule removes them (`store init`), from a folder the server does.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from serving.responses import VideoJob
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.objects import AbsentError, StorageError, path_of, read, write

STATUS, RESULT, CANCELLED = "status.json", "result", "cancelled"
_MOST_STATUS_BYTES = 10_000


class StoredJob(VideoJob):
    """A job as it is kept."""

    kind: str = ""  # media type of the result
    size: int = 0  # bytes of the result
    sha256: str = ""  # of the result

    def with_result(self, content: bytes, kind: str) -> "StoredJob":
        """Return the job with this result."""
        digest = hashlib.sha256(content).hexdigest()
        return self.model_copy(update={"kind": kind, "size": len(content), "sha256": digest})


class JobFiles:
    """Files of the jobs of an environment; each method may raise StorageError, and takes as long as the store does."""

    def __init__(self, uri: str, environment: str) -> None:
        self._uri, self._folder = uri.rstrip("/"), f"captures/{environment}/jobs"
        self._endpoint = endpoint_of_environment()

    def save(self, job: StoredJob) -> None:
        """Write a job's status."""
        self._write(job.id, STATUS, job.model_dump_json().encode(), "application/json")

    def save_result(self, job_id: str, content: bytes, kind: str) -> None:
        """Write a job's result, which counts once a status names it."""
        self._write(job_id, RESULT, content, kind)

    def cancel(self, job_id: str) -> None:
        """Note that nobody wants a job any more; the server that works on it looks for that."""
        self._write(job_id, CANCELLED, b"", "text/plain")

    def is_cancelled(self, job_id: str) -> bool:
        """Whether somebody took a job back."""
        try:
            self._read(job_id, CANCELLED, _MOST_STATUS_BYTES)
        except AbsentError:
            return False
        return True

    def load(self, job_id: str) -> StoredJob | None:
        """Return the newest status of a job; None: there is no such job."""
        try:
            content = self._read(job_id, STATUS, _MOST_STATUS_BYTES)
        except AbsentError:
            return None
        try:
            job = StoredJob.model_validate_json(content)
        except ValidationError as error:
            raise StorageError(f"{self._folder}/{job_id}/{STATUS}: {error.errors()[0]['msg']}") from error
        return job.model_copy(update={"state": "cancelled"}) if self.is_cancelled(job_id) else job

    def load_result(self, job: StoredJob) -> bytes:
        """Return the result that a status names."""
        content = self._read(job.id, RESULT, job.size)
        if hashlib.sha256(content).hexdigest() != job.sha256:
            raise StorageError(f"{self._folder}/{job.id}/{RESULT}: it is not what {STATUS} names")
        return content

    def remove_older(self, seconds: float) -> None:
        """Remove jobs that did not change for so long from a folder; a bucket does it by itself."""
        if self._uri.startswith("s3://"):
            return
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        for folder in self._folders():
            with suppress(OSError):  # another server removed it
                if datetime.fromtimestamp(folder.stat().st_mtime, UTC) < before:  # its files are renamed into it
                    shutil.rmtree(folder)

    def _folders(self) -> Iterator[Path]:
        with suppress(OSError):  # there is none yet
            yield from (path_of(self._uri) / self._folder).iterdir()

    def _write(self, job_id: str, name: str, content: bytes, kind: str) -> None:
        write(self._uri, f"{self._folder}/{job_id}/{name}", content, kind, self._endpoint)

    def _read(self, job_id: str, name: str, most: int) -> bytes:
        return read(f"{self._uri}/{self._folder}/{job_id}/{name}", self._endpoint, most)
