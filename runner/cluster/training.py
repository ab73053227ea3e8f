"""The training of a commit in the cluster: started unless somebody has, and looked after until it is through.

A run counts when its commit has the same inputs of a training: commits that change none of them, such as the bot's, may
lie between. So a push that starts a run through the webhook, and `first-run`, look after one and the same.
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
    """Look after the training of a commit until it is through; return the PipelineRun's name.

    Runs that had ended before do not count: whoever calls this again has mended the cause. Of several that count, the
    newest does, since it cancels the others.

    Args:
        project: the repository, which knows the commits of the branch.
        commit: its id.
        say: is told what happens.
        pause_s: between two looks. A training has no limit.
    Raises:
        ClusterError: the run failed, or the cluster cannot be reached, for minutes once it was.
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
            except UnreachableError as error:  # the next look shows whether the run was made
                tell(str(error))
        time.sleep(pause_s)


def outcome(name: str, commit: str, store: Store | None = None) -> str:
    """Return what became of a run that has ended, in a line, as its summary has it.

    Args:
        name: of the PipelineRun.
        commit: that it was for.
        store: where its version is, if it made one; without it the gate's reasons are not told.
    """
    steps = [step for step in steps_of(task_runs(Cluster(), name)) if step.name != "summary"]
    return report(name, commit, [], steps, store).line


def same_inputs(project: Path, one: str, other: str) -> bool:
    """Whether a training of two commits is the same; not, where the repository does not know one of them."""
    paths = sources(project)
    command = ["git", "--literal-pathspecs", "diff", "--quiet", "--end-of-options", one, other, "--", *paths]
    return subprocess.run(command, cwd=project, capture_output=True, check=False).returncode == 0


def _start(cluster: Cluster, commit: str) -> str:
    """Start a run; say why not, where another is at work."""
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
