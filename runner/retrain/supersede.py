"""Supersede older runs: the newest commit's run cancels those that have not begun to publish, and waits for others.

Newer means newer in the branch's history: a webhook delivery may come late or twice, and its run cancels nothing.
Trials, runs with values of their own, neither cancel nor are cancelled, because they are never pinned.
"""

from collections.abc import Callable

from runner.cluster.api import RUNS, Cluster
from runner.cluster.kubectl import MissingError
from runner.cluster.runs import CANCEL, begun, is_trial, name_of, older, runs
from runner.cluster.waiting import say, wait_until

PUBLISH = "publish"
PATIENCE_S = 45 * 60  # a publish takes minutes


def supersede(
    cluster: Cluster, name: str, newer: Callable[[], str], *, patience_s: float = PATIENCE_S, pause_s: float = 5
) -> str:
    """Wait until no older run is active; return the newer commit that supersedes this run, as text, or an empty text.

    `newer` returns that commit, empty when there is none. ClusterError: the API refuses, or an older run does not end.
    """
    if reason := newer():
        return reason

    def active_runs() -> str:
        """Cancel older runs that have not begun to publish; return those that are active, as text."""
        found = []
        for run in (run for run in older(runs(cluster), name) if not is_trial(run)):
            publishes = PUBLISH in begun(run)
            if not publishes and run["spec"].get("status") != CANCEL:
                try:
                    cluster.patch(f"{RUNS}/{name_of(run)}", {"spec": {"status": CANCEL}})
                except MissingError:
                    continue
            found.append(f"{name_of(run)}, which is older and {'publishes' if publishes else 'is cancelled'}")
        return "; ".join(found)

    remedy = "look at these runs, or cancel them by hand,"
    wait_until(active_runs, say, remedy=remedy, patience_s=patience_s, pause_s=pause_s)
    return ""
