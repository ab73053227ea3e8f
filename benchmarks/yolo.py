"""Ultralytics' command line for benchmarks: offline, with a chosen number of threads.

`python -m benchmarks.yolo SETTINGS THREADS ARGUMENT…`: SETTINGS is a folder for Ultralytics' settings; THREADS is a
number, or `own` for Ultralytics' default (on a CPU all cores but one); the arguments are those of `yolo`.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    settings, threads, *arguments = sys.argv[1:]
    sys.argv = ["yolo", *arguments]
    if threads == "own":
        os.environ["OMP_NUM_THREADS"] = "1"  # Ultralytics' own default
    from runner.stages.offline import ultralytics_offline

    ultralytics_offline(Path(settings))
    from ultralytics.cfg import entrypoint
    from ultralytics.utils import torch_utils

    if threads != "own":
        torch_utils.NUM_THREADS = int(threads)
    entrypoint()
