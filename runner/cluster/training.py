"""Training of a commit in the cluster: start it unless one is running, and wait for its end.

A run counts when its commit has the same training inputs; commits that change none of them, such as the bot's, may lie
between. So `first-run` follows the run that a push started through the webhook instead of starting a second one.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from runner.cluster.api import PIPELINES, Cluster
from runner.cluster.run_report import report, steps_of
from runner.cluster.runs import is_trial, runs, task_runs
from runner.cluster.start import BusyError, start
from runner.cluster.waiting import Say, while_away
from runner.errors import ClusterError, UnreachableError
from runner.pipeline.sources import sources
from runner.store import Store

Run = dict[str, Any]


def train(project: Path, commit: str, say: Say, *, pause_s: float) -> str:
    """Wait for the training of a commit, started if necessary; return the PipelineRun's name.

    Runs that had ended before the call do not count: the caller has fixed the cause since. Of several, the newest
    counts, since it cancels the others. A training has no time limit.

    Args:
        project: the repository, which knows the commits of the branch.
    Raises:
        ClusterError: the run failed, or the cluster was unreachable: at the start, or later for minutes.
    """
    cluster, told = Cluster(), set[str]()
    past = {_name(run) for run in runs(cluster) if _condition(run).get("status") in ("True", "False")}

    def tell(line: str) -> None:
        if line.strip() and line not in told:
            say(line)
            told.add(line)

    while True:
        known = while_away(lambda: runs(cluster), say, pause_s=pause_s)
        counting = [run for run in known if _name(run) not in past and _is_of(run, project, commit)]
        if counting:
            name, condition = _name(counting[-1]), _condition(counting[-1])
            tell(f"PipelineRun {name}: kubectl -n {PIPELINES} get pipelinerun {name} -w")
            tell(f"  {condition.get('message', '')}")
            match condition.get("status"):
                case "True":
                    return name
                case "False":
                    raise ClusterError(
                        f"PipelineRun {name} failed: {outcome(name, commit)} ({condition.get('message')}); mend the "
                        "cause, then run this again"
                    )
        else:
            try:
                tell(_start(cluster, commit))
            except UnreachableError as error:  # the next poll shows whether the run was created
                tell(str(error))
        time.sleep(pause_s)


def outcome(name: str, commit: str, store: Store | None = None) -> str:
    """Return the one-line result of an ended PipelineRun, as in its summary; store None: without the gate's reasons."""
    steps = [step for step in steps_of(task_runs(Cluster(), name)) if step.name != "summary"]
    return report(name, commit, [], steps, store).line


def same_inputs(project: Path, one: str, other: str) -> bool:
    """Whether two commits have the same training inputs; False when the repository lacks one of them."""
    paths = sources(project)
    command = ["git", "--literal-pathspecs", "diff", "--quiet", "--end-of-options", one, other, "--", *paths]
    return subprocess.run(command, cwd=project, capture_output=True, check=False).returncode == 0


def _start(cluster: Cluster, commit: str) -> str:
    """Start a run; return why not when another is active, else an empty text."""
    try:
        start(cluster, commit, [], {}, now=False)
    except BusyError as error:
        return f"{str(error).partition(';')[0]}: waiting for it"
    return ""


def _is_of(run: Run, project: Path, commit: str) -> bool:
    params = {each["name"]: each["value"] for each in run["spec"].get("params", [])}
    return not is_trial(run) and same_inputs(project, str(params.get("revision")), commit)


def _condition(run: Run) -> dict[str, Any]:
    conditions = (run.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == "Succeeded"), {})


def _name(run: Run) -> str:
    return str(run["metadata"]["name"])
