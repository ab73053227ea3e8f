"""How time and memory from `dataset add` to `split` grow with a dataset, and what a small change of a large one costs.

`python -m benchmarks growth` runs real commands in a copy of the project: `dataset add` of a folder of tiny pictures,
then `dvc repro split`, which composes, fetches, prepares and splits. A stage's own seconds, without the start of
Python, are what it notes for `summary`; DVC's share is all the rest, the start of five Pythons included. Memory is that
of the largest process: `dataset add`, a stage, or `dvc` itself. CPU seconds are of all processes, and say most on a
machine that others use; those of `dvc` alone are DVC's share without the stages' Pythons. `--prepare N…` measures
stage prepare alone instead, without DVC, of pictures that differ in their comment only.
"""

import argparse
import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from benchmarks.pictures import alike, tiny
from benchmarks.rounds import CORES, FOLDER, children_cpu_seconds, markdown, project, ratio, shell, spread

LOOK_SECONDS = 0.02
STAGES = ("compose", "fetch", "prepare", "split")


class Ran(NamedTuple):
    """A command."""

    seconds: float
    cpu_s: float  # of all its processes
    own_cpu_s: float  # of the first one alone: `dvc`, without the stages
    stages: dict[str, float]  # own seconds of the stages that ran
    peak_mb: float  # of the largest of its processes

    @property
    def dvc(self) -> float:
        """Seconds in addition to the stages' own."""
        return self.seconds - sum(self.stages.values())


def run(folder: Path, *command: str) -> Ran:
    """Run a Python module in a project."""
    noted = folder / ".work/seconds"
    shutil.rmtree(noted, ignore_errors=True)
    before, start = children_cpu_seconds(), time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, env=shell(), stdout=log, stderr=log)
        peak = own = 0.0
        while process.poll() is None:
            peak = max(peak, largest_mb(process.pid))
            own = max(own, cpu_seconds(process.pid))
            time.sleep(LOOK_SECONDS)
    seconds, cpu_s = time.perf_counter() - start, children_cpu_seconds() - before
    if process.returncode:
        raise RuntimeError(f"{command}: {(folder / 'log').read_text()[-3000:]}")
    stages = {name: noted / f"{name}.json" for name in STAGES}
    stage_s = {name: json.loads(file.read_text()) for name, file in stages.items() if file.exists()}
    return Ran(seconds, cpu_s, own, stage_s, peak)


def largest_mb(pid: int) -> float:
    """Return the memory in MB of the largest of a process and its children."""
    largest = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                largest = max(largest, each.memory_info().rss / 2**20)
    return largest


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far, without its children; 0: it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def empty(name: str) -> Path:
    """Return a copy of the project, without a dataset, in a new folder."""
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    return project(FOLDER / name / "project", {})


def add(folder: Path) -> Ran:
    """Add the pictures of `source` beside the project."""
    return run(folder, "runner", "dataset", "add", str(folder.parent / "source"), "--name", "tiny")


def repro(folder: Path) -> Ran:
    """Bring everything up to the split up to date."""
    return run(folder, "dvc", "repro", "split")


def change(pictures: int, added: int, rounds: int) -> str:
    """Return Markdown: pictures added to a dataset, beside a command with nothing to do."""
    folder = empty("change")
    tiny(folder.parent / "source", pictures)
    add(folder)
    repro(folder)
    whole: dict[str, list[Ran]] = {"nothing": [], "added": []}
    alone: dict[str, list[float]] = {"nothing": [], "added": []}
    adds = []
    for number in range(rounds):
        whole["nothing"].append(repro(folder))
        alone["nothing"].append(run(folder, "dvc", "repro", "--single-item", "--force", "prepare").stages["prepare"])
        tiny(folder.parent / "source", added, start=pictures + number * added)
        adds.append(add(folder))
        whole["added"].append(repro(folder))
        alone["added"].append(whole["added"][-1].stages["prepare"])
    shutil.rmtree(folder.parent)
    rows = []
    for key, title in (("nothing", "nothing changed"), ("added", f"{added} pictures added")):
        seconds = [ran.seconds for ran in whole[key]]
        figures = [
            ratio(seconds, (ran.seconds for ran in whole["nothing"])),
            median(ran.cpu_s for ran in whole[key]),
            median(ran.own_cpu_s for ran in whole[key]),
            median(alone[key]),
            median(ran.dvc for ran in whole[key]),
        ]
        rows.append([title, f"{median(seconds):.2f}", spread(seconds), *(f"{each:.2f}" for each in figures)])
    head = [f"{pictures:,} pictures", "`dvc repro split`, s", "range", "÷ the first"]
    head += ["CPU s", "of `dvc` alone", "stage prepare, s", "DVC, s"]
    before = f"`dataset add` before it: {median(ran.seconds for ran in adds):.2f} s"
    return markdown(head, rows, f"{before}; {CORES} cores, {rounds} rounds")


def growth(sizes: list[int], rounds: int) -> str:
    """Return Markdown: a row per size; everything anew, then a command with nothing to do."""
    rows = []
    for size in sizes:
        adds, runs, nothing = [], [], []
        for _ in range(rounds):
            folder = empty("growth")
            tiny(folder.parent / "source", size)
            adds.append(add(folder))
            runs.append(repro(folder))
            nothing.append(repro(folder))
        seconds = [
            median(ran.seconds for ran in adds),
            *(median(ran.stages[name] for ran in runs) for name in STAGES[1:]),
            median(ran.dvc for ran in runs),
            median(ran.seconds for ran in nothing),
            *(median(ran.cpu_s for ran in each) for each in (adds, runs)),
            median(ran.own_cpu_s for ran in runs),
            median(ran.cpu_s for ran in nothing),
        ]
        peak = max(ran.peak_mb for ran in adds + runs + nothing)
        rows.append([f"{size:,}", *(f"{each:.1f}" for each in seconds), f"{peak:.0f}"])
        shutil.rmtree(folder.parent)
    head = ["pictures", "add s", "fetch s", "prepare s", "split s", "DVC s", "no-op s"]
    head += ["CPU s: add", "repro", "of `dvc` alone", "no-op", "MB"]
    return markdown(head, rows, f"PNGs of 18x16 pixels, {CORES} cores, {rounds} rounds")


def of_prepare(sizes: list[int]) -> str:
    """Return Markdown: memory and seconds of stage prepare by itself, anew and with every picture known.

    The digest of its outputs tells whether two commits write the same.
    """
    rows = []
    for size in sizes:
        folder = empty("prepare")
        run(folder, "runner", "compose")
        alike(folder, size)
        for title in ("anew", "all known"):
            ran = run(folder, "runner", "prepare")
            figures = [f"{ran.peak_mb:.0f}", f"{ran.cpu_s:.1f}", f"{ran.stages['prepare']:.1f}"]
            rows.append([title, f"{size:,}", *figures, digest_of(folder / "artifacts")])
        shutil.rmtree(folder.parent)
    head = ["prepare", "pictures", "MB", "CPU s", "own s", "digest of outputs"]
    return markdown(head, rows, f"JPEGs of 32x24 pixels with two boxes, {CORES} cores, one run each")


def digest_of(folder: Path) -> str:
    """Return eight hex digits of the names and bytes of the files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 5000, 20_000])
    parser.add_argument("--pictures", type=int, default=5000, help="of the dataset that is changed; 0: none is")
    parser.add_argument("--added", type=int, default=50)
    parser.add_argument("--prepare", type=int, nargs="+", help="numbers of pictures: stage prepare, and nothing else")
    options = parser.parse_args(arguments)
    if options.prepare:
        print(of_prepare(options.prepare))
        return
    if options.pictures:
        print(change(options.pictures, options.added, options.rounds), flush=True)
    if options.sizes:
        print(growth(options.sizes, options.rounds))


if __name__ == "__main__":
    main()
