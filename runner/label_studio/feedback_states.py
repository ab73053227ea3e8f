"""What became of people's feedback, for the model server's `GET /feedback/<request id>`: one object in the store.

feedback/reports.json has no picture, no box and no comment:

    {"versions": ["<sha256>", …], "reports": {"<request id>": {"state": "open", "since": "<time>", "version": null}}}

`versions` are those of the dataset, oldest first, up to the one in params.yaml; `version` is the first that has the
annotation made after the report.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.dataset.versions import record_key
from runner.errors import MissingObjectError
from runner.label_studio.captures import CaptureStore
from runner.label_studio.labelling_tasks import Task
from runner.label_studio.reported import reported_at, requests_in
from runner.label_studio.task_states import TaskState, TaskStates, microseconds
from runner.store import SCHEME, Store

KEY = "feedback/reports.json"
OPEN, LABELLED, SKIPPED, IN_DATASET = "open", "labelled", "skipped", "in_dataset"


def note_feedback(
    captured: CaptureStore, store: Store, url: str, sha256: str | None, tasks: Iterable[Task], states: TaskStates | None
) -> int:
    """Write what became of each report; return the number of those that are not in a version yet.

    Args:
        url: of the dataset's version in params.yaml; `sha256` is its digest.
        tasks: of the project, after `order_tasks`.
        states: the tasks as that version has them; None: unknown, or no version of a pull.
    """
    before = _read(captured)
    reports = {key: known for key, known in before.items() if known.get("state") == IN_DATASET}  # its task may be gone
    for task in tasks:
        state = _state(task, (states or {}).get(task.id))
        for request in requests_in(task.data):
            request_id, _, time = request.partition(" ")
            if not time:  # a capture without feedback
                continue
            known = before.get(request_id, {})
            if known.get("state") == IN_DATASET and known.get("since") == time:
                reports[request_id] = known
            else:
                version = sha256 if state == IN_DATASET else None
                reports[request_id] = {"state": state, "since": time, "version": version}
    versions = list(_versions(store, url, sha256))[::-1]
    content = json.dumps({"versions": versions, "reports": dict(sorted(reports.items()))}, indent=1)
    if reports or before:
        captured.write(KEY, content.encode())
    return sum(each["state"] != IN_DATASET for each in reports.values())


def _state(task: Task, pulled: TaskState | None) -> str:
    """Return the state of a task's newest report."""
    reported = reported_at(task.data)
    time_us = microseconds(reported) if reported else 0
    if pulled and pulled.time_us is not None and pulled.time_us >= time_us:
        return IN_DATASET if pulled.finished else SKIPPED
    if not task.labelled or task.overlap > 1:  # `order_tasks` asks for one person more until somebody has annotated it
        return OPEN
    return LABELLED if task.finished else SKIPPED


def _versions(store: Store, url: str, sha256: str | None) -> Iterator[str]:
    """Yield the digests of the version in params.yaml and those before it."""
    key, seen = url.removeprefix(SCHEME), set[str]()
    while url.startswith(SCHEME) and sha256 and sha256 not in seen:
        seen.add(sha256)
        yield sha256
        record = record_key(f"{key.rpartition('/')[0]}/{sha256[:12]}.jsonl")
        sha256 = json.loads(store.read(record)).get("previous") if store.exists(record) else None


def _read(captured: CaptureStore) -> Mapping[str, dict[str, Any]]:
    try:
        found = json.loads(captured.read(KEY))["reports"]
        return {key: each for key, each in found.items() if isinstance(each, dict)}
    except (MissingObjectError, ValueError, LookupError, TypeError, AttributeError):
        return {}
