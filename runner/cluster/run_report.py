"""Report of a run: for the log, the run's folder in the store, and the commit status.

It is made from the TaskRuns, so it works whatever failed; a published version adds its verdict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from runner.cluster.api import Object
from runner.cluster.runs import results_of, task_of
from runner.config.compose import leaves
from runner.release.promote import side_by_side
from runner.release.verdict import criteria_rows
from runner.store import Store
from runner.store.published import Version, read_version
from runner.tables import METRICS, Row, Table

SUCCESS, FAILURE, ERROR = "success", "failure", "error"  # GitHub's states of a commit


class Step(NamedTuple):
    """A Task of the run.

    Attributes:
        name: in the Pipeline.
        state: done, failed, cancelled, timed out or running.
        seconds: duration; None when unknown.
        results: also those of a failed Task.
    """

    name: str
    state: str
    seconds: float | None
    results: Mapping[str, str]


class Report(NamedTuple):
    """Report of a run.

    Attributes:
        state: of the commit status, in GitHub's terms.
        line: one-line summary.
        text: the whole report, as Markdown.
        folder: of the run in the store; None when nothing was published.
    """

    state: str
    line: str
    text: str
    folder: str | None


def steps_of(task_runs: list[Object]) -> list[Step]:
    """Return the steps of a run from its TaskRuns."""
    return [Step(task_of(each), _state(each), _seconds(each), results_of(each)) for each in task_runs]


def report(run: str, revision: str, overrides: list[str], steps: list[Step], store: Store | None) -> Report:
    """Return the report of a run.

    Args:
        run: name of the PipelineRun.
        revision: the commit's id.
        overrides: values of this run alone.
        steps: without the Task that reports.
        store: None when it cannot be reached.
    """
    found = {step.name: step for step in steps}
    version = _version(found, store)
    state, line = _outcome(found, version, is_trial=bool(overrides))
    about: list[Row] = [("", ""), ("run", run), ("commit", revision)]
    about += [("values of this run alone", " ".join(overrides))] if overrides else []
    about += [(name, value) for name, value in _facts(found)]
    if version and store:
        about.append(("model", store.uri_of(f"models/{version.model}/{version.number}")))
        about.append(("run's files", store.uri_of(f"runs/{version.model}/{version.number}")))
    times: list[Row] = [("step", "outcome", "seconds")]
    times += [(step.name, step.state, "-" if step.seconds is None else f"{step.seconds:.0f}") for step in steps]
    tables = [Table("The run", about), Table("Steps", times)]
    if version and store:
        tables += _of_version(version, store)
    errors = [f"- {step.name}: {step.results['error']}" for step in steps if step.results.get("error")]
    text = "\n\n".join([f"## {line}", *(table.as_text(markdown=True) for table in tables), *errors])
    folder = f"runs/{version.model}/{version.number}" if version else None
    return Report(state, line, text, folder)


def _outcome(found: dict[str, Step], version: Version | None, *, is_trial: bool) -> tuple[str, str]:
    broken = [step for step in found.values() if step.state in ("failed", "timed out")]
    if broken:
        said = broken[0].results.get("error") or broken[0].state
        return ERROR, f"{broken[0].name}: {said}"
    if any(step.state == "cancelled" for step in found.values()):
        return ERROR, "cancelled, by a newer push or by hand"
    if "supersede" in found and (newer := found["supersede"].results.get("superseded")):
        return SUCCESS, f"nothing trained: {newer}"
    if (plan := found.get("plan")) is None:
        return ERROR, "cancelled before it began, by a newer push or by hand"
    if plan.results.get("answer") == "nothing":
        return SUCCESS, "nothing to train: this commit changes no input of a stage"
    publish = found.get("publish")
    if publish is None:
        return ERROR, "cancelled before it published, by a newer push or by hand"
    if reason := publish.results.get("superseded"):
        return ERROR, f"not published: {reason}"
    name = f"{publish.results.get('model')} {publish.results.get('version')}"
    said = found["pin"].results.get("said", "") if "pin" in found else ""
    if version is not None and not version.passed:
        reasons = [each["said"] for each in (version.manifest.verdict or {}).get("findings", []) if not each["passed"]]
        return FAILURE, f"{name} did not pass the gate: {'; '.join(reasons)}"
    is_well = is_trial or (said and "not pinned" not in said)
    return SUCCESS if is_well else FAILURE, f"{name}: {said or 'published, not pinned'}"


def _facts(found: dict[str, Step]) -> list[Row]:
    """Return the Tasks' results as rows: the plan's answer, the device, the pin."""
    named = [
        ("plan", "plan", "answer"),
        ("device", "await-gpu", "device"),
        ("no GPU came", "await-gpu", "fallback"),
        ("pin", "pin", "said"),
        ("staging", "pin", "staging"),
    ]
    return [
        (title, found[task].results[name])
        for title, task, name in named
        if task in found and found[task].results.get(name)
    ]


def _version(found: dict[str, Step], store: Store | None) -> Version | None:
    results = found["publish"].results if "publish" in found else {}
    if not store or not results.get("model") or not results.get("version", "").isdecimal():
        return None
    return read_version(store, results["model"], int(results["version"]))


def _of_version(version: Version, store: Store) -> list[Table]:
    manifest = version.manifest
    verdict = manifest.verdict if isinstance(manifest.verdict, dict) else {}
    rows = criteria_rows(verdict.get("findings", []))
    rows += [("left out", line, "-") for line in verdict.get("left_out", [])]
    against = verdict.get("deployed")
    old = read_version(store, against["model"], against["version"]) if against else None
    params: list[Row] = [("key", "value")]
    for key, value in leaves((manifest.model_extra or {}).get("params", {})):
        params.append((key, "" if value is None else json.dumps(value, ensure_ascii=False)))
    return [
        Table("The gate", rows),
        Table("Quality on test, deployed → this one", [("class", *METRICS.values()), *side_by_side(old, version)]),
        Table("Parameters", params),
    ]


def _state(task_run: Object) -> str:
    conditions = task_run.get("status", {}).get("conditions", [])
    last = next((each for each in conditions if each["type"] == "Succeeded"), {"status": "Unknown"})
    if last["status"] == "True":
        return "done"
    if last["status"] == "Unknown":
        return "running"
    return {"TaskRunCancelled": "cancelled", "TaskRunTimeout": "timed out"}.get(last.get("reason", ""), "failed")


def _seconds(task_run: Object) -> float | None:
    status = task_run.get("status", {})
    try:
        start, end = (datetime.fromisoformat(status[key]) for key in ("startTime", "completionTime"))
    except (KeyError, ValueError):
        return None
    return (end - start).total_seconds()
