"""What captures cost a server: CPU time of a request without them, and where each picture is selected.

`python -m benchmarks.captures --model planes-helis.onnx`: two servers with the default limits, one that selects every
picture of a camera that shows the same, one every picture of many that differ. CPU time is of the server and its
decoders.
"""

import argparse
import contextlib
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.load import ask, multipart
from benchmarks.pictures import photos
from benchmarks.rounds import CORES, in_turn, markdown, spread
from benchmarks.server import ours, started
from tests.support.processes import free_port

NONE, SAME, MANY = "no captures", "every picture selected, all alike", "every picture selected, all different"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=60, help="of one round of one contestant")
    options = parser.parse_args(arguments)
    many = [multipart(data) for data in photos(40, 810, 1080)]
    bodies = {NONE: many, SAME: many[:1], MANY: many}
    with contextlib.ExitStack() as stack:
        servers = {}
        for name in bodies:
            folder, port = stack.enter_context(tempfile.TemporaryDirectory()), free_port()
            settings = {"CAPTURE_URI": folder, "CAPTURE_STRATEGIES": "random:1"} if name != NONE else {}
            environment = {"MODEL_URI": str(options.model.resolve()), "WORKERS": "1", **settings}
            servers[name] = port, stack.enter_context(started(ours(port), port, "/readyz", **environment))
        contestants = {
            name: partial(ask, port, "/detect", bodies[name], count=options.requests, pid=pid)
            for name, (port, pid) in servers.items()
        }
        results = in_turn(contestants, options.rounds)
    rows = []
    for name, measured in results.items():
        ratios = [mine.cpu_ms / other.cpu_ms for mine, other in zip(measured, results[NONE], strict=True)]
        cpu = median(each.cpu_ms for each in measured)
        rows.append([name, f"{cpu:.2f}", f"{median(ratios):.3f}", spread(ratios, 3)])
    errors = sum(each.errors for measured in results.values() for each in measured)
    head = [f"{options.requests} requests a round", "CPU-ms each", "÷ without", "range"]
    print(markdown(head, rows, f"{CORES} cores, {options.rounds} rounds, {errors} errors"))


if __name__ == "__main__":
    main()
