"""The step of the wheel that is missing: what `flywheel` says last.

It looks from the end of a round to its beginning, so that it never names a step that was done.
"""

import json
import os
from pathlib import Path
from posixpath import basename
from typing import Any

from runner.config.schema import Config
from runner.errors import LabelStudioError, RunnerError
from runner.label_studio.labelled_dataset import PULL, current_dataset, dataset_name
from runner.label_studio.labelling_tasks import list_tasks, sha256_in
from runner.label_studio.server import connected
from runner.pipeline.plan import make_plan
from runner.pipeline.run_cache import COMPOSE
from runner.store import Store
from runner.workspace import scratch


def next_step(project: Path, store: Store, config: Config, untrained: str, captured: int) -> str:
    """Return the missing step, with its command.

    `untrained` are the digits of the version in params.yaml, if no published model was trained on it; `captured` is the
    number of captures and feedbacks of the last round's models.
    """
    if untrained:
        try:
            done = not make_plan(project).reasons.keys() - {COMPOSE}
        except RunnerError:  # no DVC here, as where a cluster trains
            done = False
        missing = "published: `python -m runner publish`" if done else "trained: `dvc repro`, then publish"
        return f"params.yaml names version {untrained} of the dataset, and no model on it was {missing}"
    if proposed := _proposed(store, config):
        return f"merge the pull request of `labels pull` with {' or '.join(proposed)}, which params.yaml does not name"
    if not captured:
        return "nothing was captured since: set CAPTURE_URI of the model server, or wait for pictures that it misses"
    try:
        found = _in_label_studio(project, store, config) if os.environ.get("LABEL_STUDIO_URL") else None
    except LabelStudioError:
        found = None
    return found or "`python -m runner captures push`, annotate, `python -m runner labels pull`"


def read_record(store: Store, key: str) -> dict[str, Any]:
    """Return the record of a dataset's version; empty when there is none, or it is damaged."""
    try:
        found = json.loads(store.read(key)) if store.exists(key) else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _proposed(store: Store, config: Config) -> list[str]:
    """Return the versions that `labels pull` made from the one in params.yaml, which does not name them."""
    if config.dataset.sha256 is None:
        return []
    keys = [key for key in store.list(f"datasets/{dataset_name(config)}/") if key.endswith(".json")]
    records = {key: read_record(store, key) for key in keys if key.count("/") == 2}
    ours = {"made_by": PULL, "previous": config.dataset.sha256}.items()
    return [basename(key).removesuffix(".json") for key, record in records.items() if ours <= record.items()]


def _in_label_studio(project: Path, store: Store, config: Config) -> str | None:
    """Return the step that is missing by the tasks in Label Studio; None: none of them."""
    with scratch("flywheel-", project) as folder, connected() as server:
        labels_project = server.project(config.labels.title)
        tasks = list_tasks(labels_project)
        known = {row.sha256 for row in current_dataset(config, store, project, folder / "dataset")[0].rows}
    new = [task for task in tasks if task.data.get("origin") in ("capture", "feedback")]
    if finished := sum(task.finished and sha256_in(task.data) not in known for task in new):
        return f"{finished} captured pictures were annotated and are not in the dataset: `python -m runner labels pull`"
    if waiting := sum(not task.labelled for task in new):
        return f"{waiting} captured pictures wait for an annotator: {labels_project.address}"
    return None
