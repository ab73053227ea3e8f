"""How fast `prepare` shrinks pictures, beside OpenCV in one process (the workshop's way) and libvips on all cores.

`python -m benchmarks prepare` needs the extras `train` (OpenCV) and `bench` (libvips), or PEERS_PYTHON, a Python that
has both. Ours is the whole stage as DVC runs it: digests, checks, labels, duplicates and the report come on top of the
pictures. Peers only read, shrink and write. All are measured from start to end of their process, and all write JPEGs of
the same quality.
"""

import argparse
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import yaml

from benchmarks.pictures import dataset, fetched
from benchmarks.rounds import CORES, FOLDER, PROJECT, in_turn, runner, table, took

WIDTH = 640
PEERS = {
    "opencv": "OpenCV, one process (the workshop's way)",
    "vips": f"libvips, {CORES} processes",
    "vips1": f"libvips, {CORES} processes of one thread",
}


def settings() -> dict[str, object]:
    """Return the product's settings of `prepare`, with another width."""
    values: dict[str, object] = yaml.safe_load((PROJECT / "conf/config.yaml").read_text(encoding="utf-8"))["prepare"]
    return values | {"max_width": WIDTH}


def ours(folder: Path) -> float:
    """Run the stage with an empty cache; return the seconds."""
    for stale in (".work/prepare", "artifacts/dataset", "artifacts/report"):
        shutil.rmtree(folder / stale, ignore_errors=True)
    return runner(folder, "prepare")


def peer(name: str, folder: Path) -> float:
    """Run a peer; return the seconds."""
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    images = folder / "source/images"
    extra = {"VIPS_CONCURRENCY": "1"} if name == "vips1" else {}
    arguments = [name.rstrip("1"), str(images), str(out), str(WIDTH), str(settings()["jpeg_quality"]), str(CORES)]
    return took(python, "-m", "benchmarks.prepare_peers", *arguments, cwd=PROJECT, **extra)


def installed(module: str) -> bool:
    """Whether the peers' Python has a module."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args(arguments)
    folder = FOLDER / "prepare"
    shutil.rmtree(folder, ignore_errors=True)
    dataset(folder / "source", options.pictures, 1920, 1280)
    fetched(folder / "source", folder)
    composed = {"dataset": {"classes": []}, "prepare": settings()}
    shutil.copy(PROJECT / "params.yaml", folder)  # without which no stage runs
    (folder / "artifacts/config/prepare.yaml").write_text(yaml.safe_dump(composed))
    contestants = {"`python -m runner prepare`": partial(ours, folder)}
    for name, title in PEERS.items():
        if name.startswith("vips") and not installed("pyvips"):
            print("libvips is not installed; the extra `bench` brings it")
            break
        contestants[title] = partial(peer, name, folder)
    seconds = in_turn(contestants, options.rounds)
    print(table(f"1920x1280 to {WIDTH} wide", seconds, amount=options.pictures, of="pictures"))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
