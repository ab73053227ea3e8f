"""The newest push wins: older runs that have not begun to publish are cancelled, one that has is waited for."""

from __future__ import annotations

import time

from runner.errors import ClusterError
from runner.retrain.kubernetes import RUNS, Cluster, MissingError
from runner.retrain.runs import CANCEL, has_begun, older, runs

PUBLISH = "publish"


def supersede(cluster: Cluster, name: str, *, patience: float, poll: float = 5) -> None:
    """Return once no older run is at work.

    Args:
        cluster: its API.
        name: of this run.
        patience: seconds to wait for older runs to end.
        poll: seconds between two looks.
    Raises:
        ClusterError: the API refuses, or an older run does not end.
    """
    deadline = time.monotonic() + patience
    said: set[str] = set()
    while waiting := older(runs(cluster), name):
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


def _say(said: set[str], text: str) -> None:
    if text not in said:
        print(text, flush=True)
        said.add(text)
