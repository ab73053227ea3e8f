"""Start a retrain by hand or on a schedule: a PipelineRun from the TriggerTemplate that a push uses."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from runner.cluster.api import RUNS, TRIGGER_TEMPLATES, Cluster, Object
from runner.cluster.runs import PIPELINE, has_ended, is_trial, runs
from runner.config.compose import compose
from runner.config.override import override, set_values
from runner.errors import ClusterError, ConfigError
from runner.workspace import PARAMS


def start(cluster: Cluster, revision: str, values: list[str], params: dict[str, str], *, now: bool) -> str:
    """Create a PipelineRun and return its name.

    Args:
        revision: the commit's id.
        values: of params.yaml for this run alone, each KEY=VALUE; such a model is published, never pinned.
        params: of the Pipeline, instead of the template's defaults: gpu, gpu-timeout.
        now: start although another run is active: a run without values of its own replaces such a run, one with
            values runs beside it.
    Raises:
        BusyError: another run is active; for a run without values of its own, trials do not count.
    """
    at_work = [run for run in runs(cluster) if not has_ended(run)]
    disturbed = [run["metadata"]["name"] for run in at_work if values or not is_trial(run)]
    if disturbed and not now:
        then = "give --now to run beside it" if values else "give --now, which cancels it unless it publishes already"
        raise BusyError(f"{disturbed[-1]} is at work; wait for it, or {then}")
    template = cluster.get(f"{TRIGGER_TEMPLATES}/{PIPELINE}")
    given = {"revision": revision, **params} | ({"overrides": json.dumps(values)} if values else {})
    made = cluster.create(RUNS, fill(template, given))
    return str(made["metadata"]["name"])


class BusyError(ClusterError):
    """Another run is active."""


def fill(template: Object, given: dict[str, str]) -> Object:
    """Return the one resource of a TriggerTemplate with its params replaced, as Tekton Triggers does.

    Raises:
        ConfigError: a param is not declared, or has no value.
    """
    declared = template["spec"]["params"]
    values = {each["name"]: given.get(each["name"], each.get("default")) for each in declared}
    if unknown := given.keys() - values.keys():
        raise ConfigError(f"{', '.join(unknown)}: the TriggerTemplate has no such param, but {', '.join(values)}")
    if missing := [name for name, value in values.items() if value is None]:
        raise ConfigError(f"{', '.join(missing)}: the TriggerTemplate has no default for it; give a value")
    (resource,) = template["spec"]["resourcetemplates"]

    def put_in(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: put_in(value) for key, value in node.items()}
        if isinstance(node, list):
            return [put_in(value) for value in node]
        if isinstance(node, str):
            return re.sub(r"\$\(tt\.params\.([\w-]+)\)", lambda match: _escaped(values[match[1]]), node)
        return node

    filled: Object = put_in(resource)
    return filled


def commit_values(project: Path, values: list[str]) -> str:
    """Open a pull request with other values in params.yaml, which stays unchanged here; return the result, to print."""
    from runner.forge.pull_request import propose

    file = project / PARAMS
    before = file.read_bytes()
    try:
        set_values(project, values)
        compose(project)
        after = file.read_bytes()
    finally:
        file.write_bytes(before)
    if after == before:
        raise ConfigError(f"{PARAMS} says {' '.join(values) or 'all of it'} already: there is nothing to propose")
    branch = f"retrain/{re.sub(r'[^A-Za-z0-9.]+', '-', '-'.join(values)).strip('-.')[:60]}"
    return propose(project, {str(PARAMS): after}, branch=branch, title=f"Retrain: {', '.join(values)}")


def check_values(project: Path, values: list[str]) -> None:
    """Refuse values early that would fail the run, when the project's files are available."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(project / PARAMS, folder)
        shutil.copytree(project / "conf", Path(folder, "conf"))
        override(Path(folder), values, "tried")


def followed_branch() -> tuple[str, str]:
    """Return the repository's URL and the branch that retrains follow: from the Task's environment or cluster.env."""
    if url := os.environ.get("REPO_URL"):
        if branch := os.environ.get("BRANCH"):
            return url, branch
        raise ConfigError("BRANCH is not set, but REPO_URL is; the Tasks of gitops/pipelines set both")
    file = Path("gitops/cluster/cluster.env")
    try:
        lines = [line.partition("=") for line in file.read_text(encoding="utf-8").splitlines() if "=" in line]
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; run this in the project's folder") from error
    facts = {key: value for key, _, value in lines if not key.startswith("#")}
    return facts["REPO_URL"], facts["DETECTOR_REVISION"]


def _escaped(value: str | None) -> str:
    return (value or "").replace("$(", "$$(")  # a value that looks like a Tekton variable stays literal
