"""The record of a trial that ends, in the store under `runs/sweeps/<sweep>/`, and the table once all have ended."""

import json
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from runner.cluster.api import TRIGGER_TEMPLATES, Cluster
from runner.cluster.kubectl import Object
from runner.cluster.runs import PIPELINE, TaskOutcome, condition, has_ended, name_of, param_of, runs
from runner.errors import ClusterError
from runner.store import Store
from runner.sweep.queue import (
    DEFINITION,
    LABEL,
    TRAIN_ON_GPU,
    add_missing,
    gpus_of,
    number_of,
    start_next,
    sweep_of,
)
from runner.sweep.trials import CANCELLED, DONE, FAILED, Sweep, Trial, ValFigures, summary_of


def end_trial(cluster: Cluster, store: Store, name: str, outcomes: Sequence[TaskOutcome]) -> tuple[Sweep, list[Trial]]:
    """Record a trial that is about to end, and start the next ones; return the sweep and its trials, when all ended.

    The list is empty while others are left. Then the table is in the store too, as table.md and table.json.
    """
    run = next((each for each in runs(cluster) if name_of(each) == name), None)
    sweep = sweep_of(run) if run else None
    if run is None or sweep is None:
        raise ClusterError(f"{name}: no PipelineRun with the annotation {DEFINITION}; `sweep` of runner makes them")
    template = cluster.get(f"{TRIGGER_TEMPLATES}/{PIPELINE}")
    folder = f"runs/sweeps/{sweep.name}"
    number, values = number_of(run), json.loads(param_of(run, "overrides"))
    trial = trial_of(number, values, outcomes, gpus_of(template))
    store.replace(f"{folder}/{number:03}.json", trial.model_dump_json().encode())
    recorded = [key for key in store.list(f"{folder}/") if key.rpartition("/")[2].partition(".")[0].isdecimal()]
    trials = [Trial.model_validate_json(store.read(key)) for key in recorded]
    if sweep.search:
        add_missing(cluster, sweep, trials, but=name)
    started = start_next(cluster, but=name)
    print(f"started: {', '.join(started) or 'nothing'}", flush=True)
    theirs = [each for each in runs(cluster) if each["metadata"].get("labels", {}).get(LABEL) == sweep.name]
    known = {each.number for each in trials}
    if any(not has_ended(each) and number_of(each) not in known for each in theirs):
        return sweep, []
    lost = [each for each in theirs if number_of(each) not in known and has_ended(each)]
    trials += [_lost(each) for each in lost]
    store.replace(f"{folder}/table.md", summary_of(sweep, trials, markdown=True).encode())
    content = {"sweep": sweep.model_dump(), "trials": [each.model_dump() for each in trials]}
    store.replace(f"{folder}/table.json", json.dumps(content, indent=2).encode())
    return sweep, trials


def trial_of(number: int, values: list[str], outcomes: Sequence[TaskOutcome], gpus: int) -> Trial:
    """Return the record of a trial, from the outcomes of its Tasks; `gpus` are those that a training takes."""
    seconds = {task.name: task.seconds or 0 for task in outcomes}
    cost = {"seconds": sum(seconds.values()), "gpu_minutes": seconds.get(TRAIN_ON_GPU, 0) / 60 * gpus}
    figures, state, said = None, DONE, ""
    ended_badly = [task for task in outcomes if task.state in ("failed", "timed out", "cancelled")]
    if ended_badly:
        task = ended_badly[0]
        state = CANCELLED if task.state == "cancelled" else FAILED
        said = "" if state == CANCELLED else f"{task.name}: {task.results.get('error') or task.state}"
    else:
        measured: Mapping[str, str] = next((task.results for task in outcomes if task.name == "validate"), {})
        try:  # of the commit's own code
            figures = ValFigures.model_validate_json(measured.get("figures", ""))
        except ValidationError:
            state, said = CANCELLED, "before it was measured"
    return Trial(number=number, values=values, state=state, figures=figures, said=said, **cost)


def _lost(run: Object) -> Trial:
    """Return the record of a run that ended without one, as it was killed."""
    said = f"{name_of(run)}: {condition(run).get('reason', 'ended')}"
    return Trial(number=number_of(run), values=json.loads(param_of(run, "overrides")), state=FAILED, said=said)
