"""Supersede older runs: the newest commit's run cancels those that have not begun to publish, and waits for others.

Newer means newer in the branch's history: a webhook delivery may come late or twice, and its run cancels nothing.
Trials, runs with values of their own, neither cancel nor are cancelled, because they are never pinned.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.cluster.api import RUNS, Cluster, MissingError
from runner.cluster.runs import CANCEL, has_begun, is_trial, older, runs
from runner.errors import ClusterError

PUBLISH = "publish"


def supersede(cluster: Cluster, name: str, newer: Callable[[], str], *, patience: float, poll: float = 5) -> str:
    """Wait until no older run is active; return the newer commit that supersedes this run, as text, or an empty text.

    Args:
        name: of this run, which is no trial.
        newer: returns the newer commit of the branch that changes a training input; empty when there is none.
        patience: seconds to wait for older runs to end.
        poll: seconds between two polls.
    Raises:
        ClusterError: the API refuses, or an older run does not end.
    """
    if reason := newer():
        return reason
    deadline = time.monotonic() + patience
    said: set[str] = set()
    while waiting := [run for run in older(runs(cluster), name) if not is_trial(run)]:
        for run in waiting:
            other = run["metadata"]["name"]
            if has_begun(run, PUBLISH) or run["spec"].get("status") == CANCEL:
                _say(
                    said, f"{other} is older and {'publishes' if has_begun(run, PUBLISH) else 'stops'}: waiting for it"
                )
                continue
            try:
                cluster.patch(f"{RUNS}/{other}", {"spec": {"status": CANCEL}})
                _say(said, f"{other} is older and has not begun to publish: cancelled")
            except MissingError:
                continue
        if time.monotonic() > deadline:
            names = ", ".join(run["metadata"]["name"] for run in waiting)
            raise ClusterError(f"older runs do not end: {names}; look at them, or cancel them by hand")
        time.sleep(poll)
    return ""


def _say(said: set[str], text: str) -> None:
    if text not in said:
        print(text, flush=True)
        said.add(text)
