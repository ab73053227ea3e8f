"""Training of a commit in the cluster: start it unless one is running, and wait for its end.

A run counts when its commit has the same training inputs; commits that change none of them, such as the bot's, may lie
between. So `first-run` follows the run that a push started through the webhook instead of starting a second one.
"""

import time
from pathlib import Path

from runner.cluster.api import PIPELINES, Cluster
from runner.cluster.run_summary import summarize_run
from runner.cluster.runs import condition, has_ended, is_trial, name_of, outcomes_of, param_of, runs
from runner.cluster.start import BusyError, start
from runner.cluster.waiting import Say, while_away
from runner.errors import ClusterError, GitError, UnreachableError
from runner.forge.git import git
from runner.pipeline.sources import sources
from runner.store import Store


def train(project: Path, commit: str, say: Say, *, pause_s: float) -> str:
    """Wait for the training of a commit, started if necessary; return the PipelineRun's name.

    Runs that had ended before the call do not count: the caller has fixed the cause since. Of several, the newest
    counts, since it cancels the others. A training has no time limit. ClusterError when the run failed, or the cluster
    was unreachable: at the start, or later for minutes.
    """
    cluster, told = Cluster(), set[str]()
    past = {name_of(run) for run in runs(cluster) if has_ended(run)}

    def tell(line: str) -> None:
        if line.strip() and line not in told:
            say(line)
            told.add(line)

    while True:
        known = [run for run in while_away(lambda: runs(cluster), say, pause_s=pause_s) if name_of(run) not in past]
        counting = [
            run for run in known if not is_trial(run) and same_inputs(project, param_of(run, "revision"), commit)
        ]
        if counting:
            name, now = name_of(counting[-1]), condition(counting[-1])
            tell(f"PipelineRun {name}: kubectl -n {PIPELINES} get pipelinerun {name} -w")
            tell(f"  {now.get('message', '')}")
            if now["status"] == "True":
                return name
            if now["status"] == "False":
                raise ClusterError(
                    f"PipelineRun {name} failed: {summary_line(name, commit)} ({now.get('message')}); correct the "
                    "cause, then run this again"
                )
        else:
            try:
                start(cluster, commit, [], {}, now=False)
            except BusyError as error:
                tell(f"{str(error).partition(';')[0]}: waiting for it")
            except UnreachableError as error:  # the next poll shows whether the run was created
                tell(str(error))
        time.sleep(pause_s)


def summary_line(name: str, commit: str, store: Store | None = None) -> str:
    """Return the one-line summary of an ended PipelineRun; store None: without the gate's reasons."""
    return summarize_run(name, commit, [], outcomes_of(Cluster(), name), store).line


def same_inputs(project: Path, one: str, other: str) -> bool:
    """Whether two commits have the same training inputs; False when the repository lacks one of them."""
    try:
        git(project, "--literal-pathspecs", "diff", "--quiet", "--end-of-options", one, other, "--", *sources(project))
    except GitError:
        return False
    return True
