"""What captures cost a server: CPU time of a request without them, and where each picture is selected.

`python -m benchmarks.captures --model planes-helis.onnx`: two servers with the default limits, one that selects every
picture of a camera that shows the same, one every picture of many that differ. CPU time is of the server and its
decoders.
"""

import argparse
import contextlib
import http.client
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.load import Measured, measure, multipart, post
from benchmarks.pictures import photos
from benchmarks.rounds import CORES, in_turn
from benchmarks.server import ours, started
from tests.support.processes import free_port

NONE, SAME, MANY = "no captures", "every picture selected, all alike", "every picture selected, all different"


def requests(port: int, bodies: Sequence[bytes], count: int, pid: int) -> Measured:
    """Send so many requests one after the other, with the bodies in turn."""
    times: list[float] = []
    errors: list[int] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for body in itertools.islice(itertools.cycle(bodies), count):
            start = time.perf_counter()
            if (status := post(connection, "/detect", body)) == 200:
                times.append((time.perf_counter() - start) * 1e3)
            else:
                errors.append(status)
        connection.close()

    return measure(client, 1, pid, times, errors)


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
            name: partial(requests, port, bodies[name], options.requests, pid) for name, (port, pid) in servers.items()
        }
        results = in_turn(contestants, options.rounds)
    print(f"| {options.requests} requests a round | CPU-ms each | ÷ without | range |\n|---|---|---|---|")
    for name, measured in results.items():
        ratios = [mine.cpu_ms / other.cpu_ms for mine, other in zip(measured, results[NONE], strict=True)]
        cpu = statistics.median(each.cpu_ms for each in measured)
        print(f"| {name} | {cpu:.2f} | {statistics.median(ratios):.3f} | {min(ratios):.3f}-{max(ratios):.3f} |")
    errors = sum(each.errors for measured in results.values() for each in measured)
    print(f"\n{CORES} cores, {options.rounds} rounds, {errors} errors")


if __name__ == "__main__":
    main()
