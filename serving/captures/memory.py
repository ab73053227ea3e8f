"""Captures of a day, noted in the store: caps and near-duplicates hold across servers of an environment, and restarts.

    captures/<environment>/memory/<date>/<number>    hour, difference hash and request id of this capture of the day

A number is taken by a conditional PUT, so one server takes it, and the others read what it has: whoever takes a number
knows all before it. Where the endpoint does not honour conditional PUTs, each server counts for itself.
"""

import logging
from collections import Counter
from datetime import datetime

from serving.storage.endpoint import Endpoint
from serving.storage.objects import StorageError, create, read
from serving.vision.similarity import RecentHashes

log = logging.getLogger(__name__)


class CaptureMemory:
    """What was captured; for one thread, `knows` for all."""

    def __init__(
        self, uri: str, environment: str, endpoint: Endpoint, *, per_hour: int, per_day: int, similar_bits: int
    ) -> None:
        self._uri, self._folder, self._endpoint = uri.rstrip("/"), f"captures/{environment}/memory", endpoint
        self._per_hour, self._per_day = per_hour, per_day
        self._hashes = RecentHashes(similar_bits, remember=max(1_000, per_day))
        self._date = ""
        self._hours: Counter[str] = Counter()  # captures of the date that are known, by hour

    def knows(self, hashed: int) -> bool:
        """Whether a near-duplicate of a picture with this difference hash was captured, as far as is known here."""
        return self._hashes.has_similar(hashed)

    def refusal(self, hashed: int, now: datetime) -> str | None:
        """Return the reason against a capture, as far as is known here: similar, per_hour or per_day; None: none."""
        self._begin(now)
        if self._hashes.has_similar(hashed):
            return "similar"
        if self._hours[f"{now:%H}"] >= self._per_hour:
            return "per_hour"
        return "per_day" if self._hours.total() >= self._per_day else None

    def take(self, hashed: int, request_id: str, now: datetime) -> str | None:
        """Note a capture in the store; return the reason against it as `refusal`, or None when it is noted.

        Idempotent for a request. `now` is UTC. StorageError: the store cannot be reached.
        """
        while (reason := self.refusal(hashed, now)) is None:
            key = f"{self._folder}/{self._date}/{self._hours.total():05}"
            entry = f"{now:%H} {hashed:016x} {request_id}"
            if create(self._uri, key, entry.encode(), self._endpoint):
                self._add(entry)
                return None
            found = self._read(key)
            self._add(found)
            if found.endswith(f" {request_id}"):  # only the answer to the first request was lost
                return None
        return reason

    def _begin(self, now: datetime) -> None:
        if (date := f"{now:%Y-%m-%d}") != self._date:
            self._date, self._hours = date, Counter()

    def _read(self, key: str) -> str:
        try:
            return read(f"{self._uri}/{key}", self._endpoint).decode("ascii", "replace")
        except StorageError as error:  # it counts all the same
            log.warning("near-duplicates of another server are not recognised: %s", error)
            return ""

    def _add(self, entry: str) -> None:
        hour, hashed, *_ = [*entry.split(), "", ""]
        self._hours[hour] += 1
        try:
            self._hashes.add(int(hashed, 16))
        except ValueError:  # nothing of ours
            return
