"""The newest commit wins: its run cancels the older ones that have not begun to publish, and waits for one that has.

Newer means newer in the branch's history: a delivery may come late, or again, and its run cancels nothing. Trials, runs
with values of their own, neither cancel nor are cancelled: they are never pinned, so they take nobody's place.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.cluster.api import RUNS, Cluster, MissingError
from runner.cluster.runs import CANCEL, has_begun, is_trial, older, runs
from runner.errors import ClusterError

PUBLISH = "publish"


def supersede(cluster: Cluster, name: str, newer: Callable[[], str], *, patience: float, poll: float = 5) -> str:
    """Wait until no older run is at work; return the newer commit that takes this run's place, in words, or nothing.

    Args:
        cluster: its API.
        name: of this run, which is no trial.
        newer: says which newer commit of the branch changes an input of a training; empty where none does.
        patience: seconds to wait for older runs to end.
        poll: seconds between two looks.
    Raises:
        ClusterError: the API refuses, or an older run does not end.
        GitError: `newer` does not know.
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
