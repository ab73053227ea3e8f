"""The demo with each program that trains: CPU minutes of all stages, and mAP50 on test.

`python -m benchmarks trainers` needs `make libreyolo`, whose Python trains the preset of LibreYOLO; this Python trains
the other. Wanted of LibreYOLO: mAP50 of 0.5 or more in at most 15 minutes of CPU.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from benchmarks.rounds import CORES, FOLDER, children_cpu_seconds, markdown, project, took
from tests.support.processes import CACHE
from tests.support.projects import set_params

LIBREYOLO = CACHE / "libreyolo/venv/bin/python"
PRESETS = {"yolox_n_scratch": LIBREYOLO, "yolo11n_scratch": Path(sys.executable)}
STAGES = ("compose", "fetch", "prepare", "split", "train", "export", "evaluate")


def main(arguments: list[str] | None = None) -> None:
    """Train once each, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="not used: a training is measured once")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=[*PRESETS])
    parser.add_argument("--set", type=json.loads, default={}, metavar="JSON", help="other values of params.yaml")
    options = parser.parse_args(arguments)
    root = FOLDER / "trainers"
    shutil.rmtree(root, ignore_errors=True)
    rows = []
    for preset in options.presets:
        python, folder = PRESETS[preset], project(root / preset, {"presets": {"model": preset}})
        set_params(folder, options.set)
        cpu, wall = {}, 0.0
        for stage in STAGES:
            before = children_cpu_seconds()
            wall += took(str(python), "-m", "runner", stage, cwd=folder, PATH=f"{python.parent}:{os.environ['PATH']}")
            cpu[stage] = children_cpu_seconds() - before
        found = json.loads((folder / "artifacts/evaluation/metrics.json").read_text(encoding="utf-8"))
        minutes = [sum(cpu.values()), cpu["train"], wall]
        maps = [f"{found[key]:.3f}" for key in ("map50", "map50_95")]
        rows.append([preset, *maps, *(f"{each / 60:.1f}" for each in minutes)])
    head = ["preset", "mAP50", "mAP50-95", "CPU min", "of these, train", "wall min"]
    print(markdown(head, rows, f"{CORES} cores, once each"))


if __name__ == "__main__":
    main()
