"""Trials as PipelineRuns, in a queue: made pending, and started in order as GPUs become free.

A trial's last Task starts the next one, so a sweep needs nobody who waits (record.py). Several may do this at the same
time: a trial has one name, and is started once.
"""

import json
from collections.abc import Sequence
from contextlib import suppress

from pydantic import ValidationError

from runner.cluster.api import GPU_QUOTA, RUNS, TRIGGER_TEMPLATES, Cluster
from runner.cluster.kubectl import ConflictError, MissingError, Object
from runner.cluster.runs import (
    PENDING,
    PIPELINE,
    SWEEP_STEP,
    begun,
    has_ended,
    is_pending,
    name_of,
    runs,
)
from runner.cluster.start import fill
from runner.errors import ClusterError
from runner.sweep.search import next_values
from runner.sweep.trials import Sweep, Trial

GPU = "nvidia.com/gpu"
LABEL, NUMBER, DEFINITION = "flywheel/sweep", "flywheel/trial", "flywheel/sweep-of"  # the last is an annotation
TRAIN_ON_GPU = "train-gpu"


def unfinished(cluster: Cluster, sweep: Sweep) -> Sweep:
    """Return the sweep of the same values that has trials left, of whatever commit, to go on with; else the given."""
    for run in reversed(runs(cluster)):
        other = sweep_of(run)
        if other and not has_ended(run) and other.model_copy(update={"revision": sweep.revision}) == sweep:
            return other
    return sweep


def sweep_of(run: Object) -> Sweep | None:
    """Return the sweep of a run; None when it is no trial of one."""
    text = run["metadata"].get("annotations", {}).get(DEFINITION)
    try:
        return Sweep.model_validate_json(text) if text else None
    except ValidationError as error:
        raise ClusterError(
            f"{name_of(run)}: the annotation {DEFINITION} is no sweep ({error}); delete this run"
        ) from error


def add_missing(cluster: Cluster, sweep: Sweep, trials: Sequence[Trial] = (), *, but: str = "") -> list[str]:
    """Create the trials that are missing, pending; return their names.

    Of a grid all; of a search, which learns from the `trials` that ended, as many as may run at a time. `but` is a run
    that is about to end.
    """
    template = cluster.get(f"{TRIGGER_TEMPLATES}/{PIPELINE}")
    there = [run for run in runs(cluster) if run["metadata"].get("labels", {}).get(LABEL) == sweep.name]
    known = {number_of(run) for run in there} | {trial.number for trial in trials}
    missing = [number for number in range(sweep.size) if number not in known]
    if sweep.search:
        left = [run for run in there if not is_over(run) and name_of(run) != but]
        missing = missing[: max(0, room(cluster, template) - len(left))]
    made = []
    for number, each in next_values(sweep, trials, missing).items():
        with suppress(ConflictError):  # somebody else made it
            made.append(name_of(cluster.create(RUNS, _trial_run(template, sweep, number, each))))
    return made


def _trial_run(template: Object, sweep: Sweep, number: int, values: Sequence[str]) -> Object:
    params = {**sweep.params, "revision": sweep.revision, "overrides": json.dumps(values), "sweep": sweep.name}
    run = fill(template, params)
    metadata = run["metadata"]
    del metadata["generateName"]
    metadata["name"] = sweep.trial_name(number)
    metadata["labels"] |= {LABEL: sweep.name, NUMBER: str(number)}
    metadata["annotations"] = metadata.get("annotations", {}) | {DEFINITION: sweep.model_dump_json()}
    run["spec"]["status"] = PENDING
    return run


def start_next(cluster: Cluster, *, but: str = "") -> list[str]:
    """Start pending trials of all sweeps, the oldest first, as many as there is room for; return their names.

    `but` is a run that is about to end. A run of a commit takes no room: it goes first where a trial waits for a GPU.
    """
    most = room(cluster, cluster.get(f"{TRIGGER_TEMPLATES}/{PIPELINE}"))
    started = list[str]()
    while True:
        trials = [run for run in runs(cluster) if LABEL in run["metadata"].get("labels", {})]
        at_work = [run for run in trials if not is_pending(run) and not is_over(run) and name_of(run) != but]
        waiting = [run for run in trials if is_pending(run) and not has_ended(run)]
        if not waiting or len(at_work) >= most:
            return started
        version = {"resourceVersion": waiting[0]["metadata"]["resourceVersion"]}
        with suppress(ConflictError, MissingError):  # it was changed, started, cancelled or deleted: look again
            cluster.patch(f"{RUNS}/{name_of(waiting[0])}", {"metadata": version, "spec": {"status": None}})
            started.append(name_of(waiting[0]))


def room(cluster: Cluster, template: Object) -> int:
    """Return how many trials may run at a time: GPUs of the namespace's quota by those of a training, at least 1."""
    try:
        hard = cluster.get(GPU_QUOTA)["spec"]["hard"]
    except MissingError:
        return 1
    return max(1, int(hard.get(f"requests.{GPU}", 0)) // max(1, gpus_of(template)))


def gpus_of(template: Object) -> int:
    """Return the GPUs that a training takes."""
    (resource,) = template["spec"]["resourcetemplates"]
    own = [each for each in resource["spec"]["taskRunSpecs"] if each["pipelineTaskName"] == TRAIN_ON_GPU]
    steps = [step for each in own for step in each.get("stepSpecs", [])]
    return sum(int(step["computeResources"].get("limits", {}).get(GPU, 0)) for step in steps)


def number_of(run: Object) -> int:
    """Return a trial's number in its sweep."""
    return int(run["metadata"]["labels"][NUMBER])


def is_over(run: Object) -> bool:
    """Whether a trial has ended, or does nothing more than starting the next one."""
    return has_ended(run) or SWEEP_STEP in begun(run)
