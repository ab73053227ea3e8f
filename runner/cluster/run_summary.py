"""Summary of a run: for the log, the run's folder in the store, and the commit status.

It is made from the outcomes of the run's Tasks, so it works whatever failed; a published version adds its verdict.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from runner.cluster.runs import TaskOutcome
from runner.config.compose import leaves
from runner.release.promote import side_by_side
from runner.release.verdict import criteria_rows, failures_text
from runner.store import Store
from runner.store.published import Version, read_version
from runner.tables import METRICS, Row, Table
from serving.storage.manifest import Verdict

SUCCESS, FAILURE, ERROR = "success", "failure", "error"  # GitHub's states of a commit
#: Row of the summary → Task and its result.
FACTS = {
    "plan": ("plan", "answer"),
    "device": ("await-gpu", "device"),
    "no GPU came": ("await-gpu", "fallback"),
    "pin": ("pin", "said"),
    "staging": ("pin", "staging"),
}


class RunSummary(NamedTuple):
    """Summary of a run."""

    state: str  # of the commit status, in GitHub's terms
    line: str
    text: str  # the whole summary, as Markdown
    folder: str | None  # of the run in the store; None when nothing was published


def summarize_run(
    run: str, revision: str, overrides: list[str], outcomes: list[TaskOutcome], store: Store | None
) -> RunSummary:
    """Return the summary of a run; `store` is None when it cannot be reached."""
    results = {task.name: task.results for task in outcomes}
    publish, version = results.get("publish", {}), None
    if store and publish.get("model") and publish.get("version", "").isdecimal():
        version = read_version(store, publish["model"], int(publish["version"]))
    state, line = _outcome(outcomes, results, version, is_trial=bool(overrides))
    about: list[Row] = [("", ""), ("run", run), ("commit", revision)]
    about += [("values of this run alone", " ".join(overrides))] if overrides else []
    about += [(title, value) for title, (task, name) in FACTS.items() if (value := results.get(task, {}).get(name))]
    times: list[Row] = [("step", "outcome", "seconds")]
    times += [(task.name, task.state, "-" if task.seconds is None else f"{task.seconds:.0f}") for task in outcomes]
    tables, folder = [Table("The run", about), Table("Steps", times)], None
    if version and store:
        folder = f"runs/{version.model}/{version.number}"
        about.append(("model", store.uri_of(f"models/{version.model}/{version.number}")))
        about.append(("run's files", store.uri_of(folder)))
        tables += _of_version(version, store)
    errors = [f"- {task.name}: {task.results['error']}" for task in outcomes if task.results.get("error")]
    text = "\n\n".join([f"## {line}", *(table.as_text(markdown=True) for table in tables), *errors])
    return RunSummary(state, line, text, folder)


def _outcome(
    outcomes: list[TaskOutcome], results: Mapping[str, Mapping[str, str]], version: Version | None, *, is_trial: bool
) -> tuple[str, str]:
    """Return the state of the commit status, and the one-line summary."""
    for task in outcomes:
        if task.state in ("failed", "timed out"):
            return ERROR, f"{task.name}: {task.results.get('error') or task.state}"
    if any(task.state == "cancelled" for task in outcomes):
        return ERROR, "cancelled, by a newer push or by hand"
    if newer := results.get("supersede", {}).get("superseded"):
        return SUCCESS, f"nothing trained: {newer}"
    if "plan" not in results:
        return ERROR, "cancelled before it began, by a newer push or by hand"
    if figures := results.get("validate", {}).get("figures"):
        return SUCCESS, f"a trial of a sweep, on val: {figures}"
    if results["plan"].get("answer") == "nothing":
        return SUCCESS, "nothing to train: this commit changes no input of a stage"
    if "publish" not in results:
        return ERROR, "cancelled before it published, by a newer push or by hand"
    publish = results["publish"]
    if newer := publish.get("superseded"):
        return ERROR, f"not published: {newer}"
    name = f"{publish.get('model')} {publish.get('version')}"
    if version is not None and not version.passed:
        return FAILURE, f"{name} did not pass the gate: {failures_text(version.manifest.verdict)}"
    said = results.get("pin", {}).get("said", "")
    is_well = is_trial or (said and "not pinned" not in said)
    return SUCCESS if is_well else FAILURE, f"{name}: {said or 'published, not pinned'}"


def _of_version(version: Version, store: Store) -> list[Table]:
    manifest = version.manifest
    verdict = manifest.verdict or Verdict()
    rows = criteria_rows(verdict) + [("left out", line, "-") for line in verdict.left_out]
    old = read_version(store, verdict.deployed.model, verdict.deployed.version) if verdict.deployed else None
    params = [
        (key, "" if each is None else json.dumps(each, ensure_ascii=False)) for key, each in leaves(manifest.params)
    ]
    return [
        Table("The gate", rows),
        Table("Quality on test, deployed → this one", [("class", *METRICS.values()), *side_by_side(old, version)]),
        Table("Parameters", [("key", "value"), *params]),
    ]
