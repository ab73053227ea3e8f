"""What became of people's reports: `captures push` writes it to the store, as one object for all servers."""

import json
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any, NamedTuple

from serving.settings import Settings
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.objects import StorageError, read

KEY = "feedback/reports.json"
_KEPT_SECONDS = 30.0


class Report(NamedTuple):
    """A report on an answer."""

    state: str  # open, labelled, skipped, in_dataset or in_model
    dataset: str | None  # sha256 of the first version of the dataset that has its annotation


class Reports:
    """The reports that annotators have got; thread-safe, read at most twice a minute."""

    def __init__(self, settings: Settings) -> None:
        self._uri = f"{settings.capture_uri.rstrip('/')}/{KEY}" if settings.capture_uri else ""
        self._endpoint = endpoint_of_environment()
        self._lock = threading.Lock()
        self._content: Mapping[str, Any] = {}
        self._read_at: float | None = None

    def get(self, request_id: str, trained_on: str) -> Report | None:
        """Return the report of a request; None: no annotator has it.

        `trained_on`: sha256 of the version of the dataset that the served model was trained on; empty: unknown.
        """
        content = self._read()
        report = content.get("reports", {}).get(request_id)
        if not isinstance(report, dict):
            return None
        version, versions = report.get("version"), content.get("versions", [])
        served = versions.index(trained_on) if trained_on in versions else -1
        if version in versions and served >= versions.index(version):
            return Report("in_model", version)
        return Report(str(report.get("state")), version)

    def _read(self) -> Mapping[str, Any]:
        """Return the newest content; empty until there is one, and the earlier one while the store is away."""
        with self._lock:
            if self._read_at is None or monotonic() - self._read_at > _KEPT_SECONDS:
                self._read_at = monotonic()
                try:
                    found = json.loads(read(self._uri, self._endpoint))
                    self._content = found if isinstance(found, dict) else {}
                except (StorageError, ValueError):
                    pass
            return self._content
