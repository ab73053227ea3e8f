"""Wait for what a cluster makes by itself, and say for what."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.cluster import kubectl
from runner.errors import ClusterError

Say = Callable[[str], None]
_TELL_S = 60  # between two lines about the same thing
_REMEDY = "look at the operators (kubectl get subscriptions,csv -A)"


def wait_until(lacking: Callable[[], str], say: Say, *, remedy: str, patience_s: float, pause_s: float) -> None:
    """Wait until nothing is lacking.

    Args:
        lacking: says what is not there yet; empty when all is.
        say: is told what is waited for, at once and then every minute.
        remedy: what people should look at when it does not come.
        patience_s: how long it may take.
        pause_s: between two looks at it.
    Raises:
        ClusterError: it has not come in time.
    """
    start, told, told_at = time.monotonic(), "", 0.0
    while what := lacking():
        waited = time.monotonic() - start
        if waited > patience_s:
            raise ClusterError(
                f"{what} did not come in {patience_s:.0f} s; {remedy} and run this again, it goes on where it stopped"
            )
        if what != told or waited - told_at >= _TELL_S:
            say(f"waiting for {what} ({waited:.0f} s)")
            told, told_at = what, waited
        time.sleep(pause_s)


def wait_for(path: str, what: str, say: Say, *, patience_s: float, pause_s: float) -> None:
    """Wait until the API server has an object.

    Args:
        path: the API's.
        what: it is, and who brings it.
        say, patience_s, pause_s: as `wait_until`.
    Raises:
        ClusterError: it has not come in time.
    """
    wait_until(lambda: "" if kubectl.get(path) else what, say, remedy=_REMEDY, patience_s=patience_s, pause_s=pause_s)
