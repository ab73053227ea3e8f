"""Rounds of contestants in turn, so that other load on the machine affects all alike."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from runner.workspace import work_folder

Result = TypeVar("Result")
Seconds = Mapping[str, list[float]]

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = work_folder() / "benchmarks"
CORES = len(os.sched_getaffinity(0))


def in_turn(contestants: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Run each contestant once per round; another one starts in each round."""
    names = list(contestants)
    results: dict[str, list[Result]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            results[name].append(contestants[name]())
    return results


def table(title: str, seconds: Seconds, *, amount: int = 0, of: str = "") -> str:
    """Return Markdown: median and range of each, and the median of the rounds' ratios to the first.

    Args:
        title: of the first column.
        seconds: of each round, by contestant; ours is the first.
        amount: work per run; adds a column of work per second. 0: no column.
        of: unit of the amount.
    """
    ours = next(iter(seconds.values()))
    rate = [f" {of}/s |", "---|"] if amount else ["", ""]
    lines = [f"| {title} | seconds | range |{rate[0]} ÷ the first |", f"|---|---|---|{rate[1]}---|"]
    for name, each in seconds.items():
        median = statistics.median(each)
        done = f" {amount / median:.1f} |" if amount else ""
        ratio = statistics.median(other / mine for mine, other in zip(ours, each, strict=True))
        lines.append(f"| {name} | {median:.2f} | {min(each):.2f}-{max(each):.2f} |{done} {ratio:.2f} |")
    return "\n".join([*lines, "", f"{CORES} cores, {len(ours)} rounds", ""])


def took(*command: str, cwd: Path, **environment: str) -> float:
    """Run a command; return the seconds. A failure raises RuntimeError."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=shell(**environment), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-3000:]}")
    return seconds


def shell(**environment: str) -> dict[str, str]:
    """Return a user's environment: this Python first in PATH, without this run's variables."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "RUNNER_", "PYTHON"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return {**kept, "PATH": path, "DVC_NO_ANALYTICS": "1", **environment}
