"""Start a retrain by hand or on a schedule: a PipelineRun from the TriggerTemplate that a push uses."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.cluster import facts as cluster_env
from runner.cluster.api import RUNS, TRIGGER_TEMPLATES, Cluster
from runner.cluster.kubectl import Object
from runner.cluster.runs import PIPELINE, has_ended, is_pending, is_trial, name_of, runs
from runner.config.compose import compose
from runner.config.override import override, set_values
from runner.errors import ClusterError, ConfigError
from runner.workspace import CONF, PARAMS


def start(cluster: Cluster, revision: str, values: list[str], params: dict[str, str], *, now: bool) -> str:
    """Create a PipelineRun and return its name; BusyError when another is active and it is not to start `now`.

    With values of params.yaml for this run alone, each KEY=VALUE, its model is published, never pinned, and it runs
    beside others. Without, it replaces another one, and trials do not count as active. `params` of the Pipeline replace
    the template's defaults: gpu, gpu-timeout.
    """
    at_work = [run for run in runs(cluster) if not has_ended(run) and not is_pending(run)]
    disturbed = [name_of(run) for run in at_work if values or not is_trial(run)]
    if disturbed and not now:
        then = "give --now to run beside it" if values else "give --now, which cancels it unless it publishes already"
        raise BusyError(f"{disturbed[-1]} is at work; wait for it, or {then}")
    template = cluster.get(f"{TRIGGER_TEMPLATES}/{PIPELINE}")
    given = {"revision": revision, **params} | ({"overrides": json.dumps(values)} if values else {})
    return name_of(cluster.create(RUNS, fill(template, given)))


class BusyError(ClusterError):
    """Another run is active."""


def fill(template: Object, given: dict[str, str]) -> Object:
    """Return the one resource of a TriggerTemplate with its params replaced, as Tekton Triggers does.

    ConfigError when a param is not declared, or has no value.
    """
    values = {each["name"]: given.get(each["name"], each.get("default")) for each in template["spec"]["params"]}
    if unknown := given.keys() - values.keys():
        raise ConfigError(f"{', '.join(unknown)}: the TriggerTemplate has no such param, but {', '.join(values)}")
    if missing := [name for name, value in values.items() if value is None]:
        raise ConfigError(f"{', '.join(missing)}: the TriggerTemplate has no default for it; give a value")
    (resource,) = template["spec"]["resourcetemplates"]

    def replaced(param: re.Match[str]) -> str:
        """Return a value as it stands in a JSON string; what looks like a Tekton variable stays literal."""
        return json.dumps((values[param[1]] or "").replace("$(", "$$("))[1:-1]

    filled: Object = json.loads(re.sub(r"\$\(tt\.params\.([\w-]+)\)", replaced, json.dumps(resource)))
    return filled


def commit_values(
    project: Path, values: list[str], *, topic: str = "Retrain", body: str = "", base: str | None = None
) -> str:
    """Open a pull request with other values in params.yaml, which stays unchanged here; return the result, to print.

    `topic` begins its title and its branch, `base` is the branch to merge into; None: the remote's default branch.
    """
    from runner.forge.pull_request import propose

    with _copy(project) as copy:
        set_values(copy, values)
        compose(copy)
        after = (copy / PARAMS).read_bytes()
    if after == (project / PARAMS).read_bytes():
        raise ConfigError(f"{PARAMS} has {' '.join(values) or 'these values'} already: there is nothing to propose")
    branch = f"{topic.lower()}/{re.sub(r'[^A-Za-z0-9.]+', '-', '-'.join(values)).strip('-.')[:60]}"
    title = f"{topic}: {', '.join(value.lstrip('+') for value in values)}"
    return propose(project, {str(PARAMS): after}, branch=branch, title=title, body=body, base=base)


def check_values(project: Path, values: list[str]) -> None:
    """Refuse values early that would fail the run, when the project's files are available."""
    with _copy(project) as copy:
        override(copy, values, "tried")


def followed_branch() -> tuple[str, str]:
    """Return the repository's URL and the branch that retrains follow: from the Task's environment or cluster.env."""
    if url := os.environ.get("REPO_URL"):
        if branch := os.environ.get("BRANCH"):
            return url, branch
        raise ConfigError("BRANCH is not set, but REPO_URL is; the Tasks of gitops/pipelines set both")
    values = cluster_env.read(cluster_env.PATH)
    if cluster_env.UNSET in (values["REPO_URL"], values["DETECTOR_REVISION"]):
        raise ConfigError(f"{cluster_env.PATH} is not filled in; gitops/README.md sets up a cluster, which trains then")
    return values["REPO_URL"], values["DETECTOR_REVISION"]


@contextmanager
def _copy(project: Path) -> Iterator[Path]:
    """Give a folder with copies of params.yaml and conf/ until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(project / PARAMS, folder)
        shutil.copytree(project / CONF, Path(folder, CONF))
        yield Path(folder)
