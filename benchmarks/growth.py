"""How time and memory of `prepare` and `split` grow with a dataset, and what a small change of a large one costs.

`python -m benchmarks growth` runs the stages through real `dvc repro --single-item` in a copy of the project. A stage's
own seconds, without the start of Python, are what it notes for `summary`; what `dvc` takes beyond them (digests, cache,
lock file, the start of two Pythons) is shown apart. Memory is the largest sum over the stage's process and its
children, shared pages counted in each.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from benchmarks.pictures import dataset
from benchmarks.rounds import CORES, FOLDER, PROJECT, shell, table
from tests.support.projects import copy_project, set_params

LOOK_SECONDS = 0.02
SHRUNK = 0.5


class Ran(NamedTuple):
    """One `dvc repro`: seconds in total and of the stage alone, and the stage's peak memory in MB."""

    seconds: float
    stage: float
    peak_mb: float

    @property
    def dvc(self) -> float:
        """Seconds in addition to the stage's own."""
        return self.seconds - self.stage


def project(folder: Path, width: int) -> Path:
    """Copy the project with settings that re-encode all pictures of a width."""
    copy_project(PROJECT, folder, shell())
    # The pictures are crops of a few larger ones: near-duplicates, of which a split that keeps them together makes six.
    set_params(folder, {"prepare": {"max_width": int(width * SHRUNK)}, "split": {"near": "ignore"}})
    repro(folder, "compose")
    return folder


def repro(folder: Path, stage: str, *options: str) -> Ran:
    """Run one stage with `dvc` and track its memory."""
    noted = folder / ".work/seconds" / f"{stage}.json"
    noted.unlink(missing_ok=True)
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", *options, stage]
    start = time.perf_counter()
    with (folder / "dvc.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, stage_mb(process.pid, stage))
            time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{stage}: {(folder / 'dvc.log').read_text()[-3000:]}")
    return Ran(seconds, json.loads(noted.read_text()) if noted.exists() else 0.0, peak)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with DVC's digest cache in the folder, so that deleting it makes a first run."""
    return shell(DVC_SITE_CACHE_DIR=str(folder / ".dvc/site"))


def stage_mb(pid: int, stage: str) -> float:
    """Return the memory in MB of the stage that `dvc` runs now, with its children."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            if process.cmdline()[-2:] == ["runner", stage]:
                family = [process, *process.children(recursive=True)]
                return sum(member.memory_info().rss for member in family) / 2**20
    return 0.0


def forget(folder: Path) -> None:
    """Delete all results of the stages after `fetch`: the next run is a first run."""
    stale = [".work", "artifacts/dataset", "artifacts/report", "artifacts/split"]
    for name in (*stale, ".dvc/cache", ".dvc/site", ".dvc/tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)


def growth(sizes: list[int], rounds: int) -> str:
    """Return Markdown: a row per size, first runs only; the no-op is the second `dvc repro` of both stages."""
    folder = FOLDER / "growth"
    shutil.rmtree(folder, ignore_errors=True)
    project(folder, 320)
    shown = [
        "| pictures | prepare s | ms each | peak MB | split s | peak MB | DVC: prepare s | split s | no-op s, both |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        shutil.rmtree(folder / "artifacts/raw", ignore_errors=True)
        dataset(folder / "artifacts/raw", size, 320, 240)
        prepared, split, nothing = [], [], []
        for _ in range(rounds):
            forget(folder)
            prepared.append(repro(folder, "prepare"))
            split.append(repro(folder, "split"))
            nothing.append(repro(folder, "prepare").seconds + repro(folder, "split").seconds)
        seconds = median(ran.stage for ran in prepared)
        shown.append(
            f"| {size:,} | {seconds:.1f} | {seconds / size * 1e3:.2f} | {max(ran.peak_mb for ran in prepared):.0f} "
            f"| {median(ran.stage for ran in split):.2f} | {max(ran.peak_mb for ran in split):.0f} "
            f"| {median(ran.dvc for ran in prepared):.1f} | {median(ran.dvc for ran in split):.1f} "
            f"| {median(nothing):.1f} |"
        )
    shutil.rmtree(folder)
    return "\n".join([*shown, "", f"320x240 to 160 wide, {CORES} cores, {rounds} rounds", ""])


def change(pictures: int, added: int, rounds: int) -> str:
    """Return Markdown: pictures added to a prepared dataset, beside no change and beside a first run."""
    folder = FOLDER / "change"
    shutil.rmtree(folder, ignore_errors=True)
    project(folder, 640)
    raw = folder / "artifacts/raw"
    dataset(raw, pictures, 640, 480)
    names = {
        "added": f"{added} pictures added",
        "nothing": "nothing changed (forced)",
        "everything": "everything anew",
    }
    runs: dict[str, list[Ran]] = {name: [] for name in names}
    redone = set()
    for _ in range(rounds):
        forget(folder)
        runs["everything"].append(repro(folder, "prepare"))
        runs["nothing"].append(repro(folder, "prepare", "--force"))
        before = known(folder)
        dataset(raw, added, 640, 480, start=pictures)
        runs["added"].append(repro(folder, "prepare"))
        redone.add(known(folder) - before)
        for number in range(pictures, pictures + added):
            (raw / f"images/{number:06d}.jpg").unlink()
            (raw / f"labels/{number:06d}.txt").unlink()
    shutil.rmtree(folder)
    stage = table(f"{pictures:,} of 640x480, the stage", {names[key]: [r.stage for r in runs[key]] for key in names})
    whole = table("through `dvc repro`", {names[key]: [r.seconds for r in runs[key]] for key in names})
    return f"{stage}\n{whole}\npictures decoded anew when {added} were added: {sorted(redone)}\n"


def known(folder: Path) -> int:
    """Return the number of pictures in the cache of `prepare`."""
    return sum(bool(line.strip()) for file in (folder / ".work").rglob("known.jsonl") for line in file.open())


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 20_000])
    parser.add_argument("--pictures", type=int, default=5000, help="of the dataset that is changed")
    parser.add_argument("--added", type=int, default=50)
    options = parser.parse_args(arguments)
    print(change(options.pictures, options.added, options.rounds), flush=True)
    print(growth(options.sizes, options.rounds))


if __name__ == "__main__":
    main()
