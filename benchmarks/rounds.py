"""Rounds of contestants in turn, so that other load on the machine affects all alike."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from runner.workspace import work_folder
from tests.support.projects import copy_project, set_params

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
    head = [title, "seconds", "range", *([f"{of}/s"] if amount else []), "÷ the first"]
    rows = []
    for name, each in seconds.items():
        rate = [f"{amount / median(each):.1f}"] if amount else []
        rows.append([name, f"{median(each):.2f}", spread(each), *rate, f"{ratio(each, ours):.2f}"])
    return markdown(head, rows, f"{CORES} cores, {len(ours)} rounds")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """Return a table as Markdown, and a line below it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), *(["", note] if note else []), ""])


def spread(figures: Sequence[float], digits: int = 2) -> str:
    """Return the least and the most, as text."""
    return f"{min(figures):.{digits}f}-{max(figures):.{digits}f}"


def ratio(figures: Iterable[float], others: Iterable[float]) -> float:
    """Return the median of the rounds' ratios."""
    return median(one / other for one, other in zip(figures, others, strict=True))


def project(folder: Path, params: Mapping[str, Any]) -> Path:
    """Return a new copy of the project, with other values in its params.yaml."""
    shutil.rmtree(folder, ignore_errors=True)
    copy_project(PROJECT, folder, shell())
    set_params(folder, dict(params))
    return folder


def runner(folder: Path, *arguments: str, **environment: str) -> float:
    """Run a command of ours in a project; return the seconds. Errors as of `took`."""
    return took(sys.executable, "-m", "runner", *arguments, cwd=folder, PYTHONPATH=str(PROJECT), **environment)


def children_cpu_seconds() -> float:
    """Return the CPU seconds of all commands that have ended; a server still runs."""
    return sum(os.times()[2:4])


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
