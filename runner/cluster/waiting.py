"""Wait loops with progress lines: retries while the API is unreachable, polls until a thing exists."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

from runner.errors import ClusterError, ConfigError, UnreachableError

Say = Callable[[str], None]
Answer = TypeVar("Answer")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
AWAY_S = 600.0  # how long the API may be unreachable, as while a control plane is updated or restarted
_TELL_S = 60  # between two lines about the same wait
OPERATORS = "look at the operators (kubectl get subscriptions,csv -A)"


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def seconds(text: str, name: str) -> float:
    """Convert a duration such as 20m, 1h30m or 45s to seconds; ConfigError, with the setting's name, otherwise."""
    if not re.fullmatch(r"(\d+[hms])+", text):
        raise ConfigError(f"{name}: found {text!r}, expected a duration such as 20m, 1h30m or 45s")
    return sum(int(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def while_away(ask: Callable[[], Answer], say: Say, *, patience_s: float = AWAY_S, pause_s: float = 5) -> Answer:
    """Return the result of `ask`, which must be idempotent; retry while the cluster's API is unreachable.

    An API server that starts knows no user's rights for a moment, so after an outage a refusal is retried too. `say`
    receives a line when the outage begins, every minute, and when it ends.
    """
    since: float | None = None
    told_at = 0.0
    while True:
        try:
            answer = ask()
        except ClusterError as error:
            now = time.monotonic()
            if not isinstance(error, UnreachableError) and (since is None or type(error) is not ClusterError):
                raise
            if since is None or now - told_at >= _TELL_S:
                say(f"the cluster's API does not answer: {error}; asking again for {patience_s:.0f} s")
                told_at = now
            since = now if since is None else since
            if now - since >= patience_s:
                raise
            time.sleep(pause_s)
        else:
            if since is not None:
                say(f"the cluster's API answers again, after {time.monotonic() - since:.0f} s")
            return answer


def wait_until(missing: Callable[[], str], say: Say, *, remedy: str, patience_s: float, pause_s: float) -> None:
    """Wait until `missing`, which names the missing thing, returns ""; ClusterError with `remedy` after `patience_s`.

    After the first answer the API may be unreachable for minutes. `say` receives what is waited for, at once and then
    every minute.
    """
    what = missing()
    start, told, told_at = time.monotonic(), "", 0.0
    while what:
        waited = time.monotonic() - start
        if waited > patience_s:
            raise ClusterError(
                f"waited {patience_s:.0f} s for {what}; {remedy} and run this again: it continues where it stopped"
            )
        if what != told or waited - told_at >= _TELL_S:
            say(f"waiting for {what} ({waited:.0f} s)")
            told, told_at = what, waited
        time.sleep(pause_s)
        what = while_away(missing, say, pause_s=pause_s)
