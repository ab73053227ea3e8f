"""Latency that a challenger in the shadow costs: the server with one and alone, in turns.

`python -m benchmarks.shadow [--model MODEL.onnx] [--challenger MODEL.onnx] [--share F]` asks for the boxes of a picture
of 810 x 1080, one client at a time, whose pauses the challenger uses, and four, which leave none. Wanted are at most
1.05 times the median latency, and a 99th percentile of at most one inference of the challenger more.
"""

import argparse
import contextlib
import os
import re
import signal
import statistics
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import Measured, ask, multipart
from benchmarks.pictures import photos
from benchmarks.rounds import CORES, in_turn, markdown, ratio
from benchmarks.server import models, ours, started
from serving.vision.detector import Detector
from tests.support.processes import free_port

PERCENTILES = ("p50_ms", "p99_ms")
ALONE, SHADOWED = "alone", "with a challenger"


def metric(port: int, name: str) -> float:
    """Return a metric of a server; 0 where it has none of this name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        found = re.search(rf"^flywheel_{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def inference_ms(model: Path, data: bytes) -> float:
    """Return the median time of a picture in the challenger alone, decoding included."""
    detector, times = Detector(model, threads=1), list[float]()
    for _ in range(15):
        start = time.perf_counter()
        detector.detect(data)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep the processes of a server from running until the block ends."""
    os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(pid, signal.SIGCONT)


def compare(model: Path, challenger: Path, share: float, rounds: int, seconds: float) -> str:
    """Measure both servers in turns; return Markdown: medians of the rounds, and of what they differ by."""
    data = next(photos(1, 810, 1080))
    body, one_ms = multipart(data), inference_ms(challenger, data)
    ports = {ALONE: free_port(), SHADOWED: free_port()}
    shadow = {"SHADOW_URI": str(challenger), "SHADOW_SHARE": str(share)}
    rows = []
    with contextlib.ExitStack() as stack:
        pids = {
            name: stack.enter_context(
                started(ours(port), port, "/readyz", MODEL_URI=str(model), **(shadow if name == SHADOWED else {}))
            )
            for name, port in ports.items()
        }
        while not metric(ports[SHADOWED], "shadow_ready"):
            time.sleep(0.1)
        for clients in (1, 4):

            def measured(name: str, of: float, clients: int = clients) -> Measured:
                other = ALONE if name == SHADOWED else SHADOWED
                with stopped(pids[other]):
                    return ask(ports[name], "/detect", [body], clients=clients, seconds=of, pid=pids[name])

            for name in ports:
                measured(name, 1)  # warm-up
            before = metric(ports[SHADOWED], "shadow_pictures_total")
            found = in_turn(
                {ALONE: lambda: measured(ALONE, seconds), SHADOWED: lambda: measured(SHADOWED, seconds)}, rounds
            )
            seen = metric(ports[SHADOWED], "shadow_pictures_total") - before
            p50, p99 = ({name: [getattr(each, key) for each in found[name]] for name in ports} for key in PERCENTILES)
            more = [other - alone for alone, other in zip(p99[ALONE], p99[SHADOWED], strict=True)]
            total = sum(round(each.per_second * seconds) for each in found[SHADOWED])
            slower = f"{ratio(p50[SHADOWED], p50[ALONE]):.3f}"
            rows.append(
                [str(clients), *(f"{statistics.median(each):.1f}" for each in p50.values()), slower]
                + [f"{statistics.median(each):.1f}" for each in p99.values()]
                + [f"{statistics.median(more):+.1f} ms", f"{seen:.0f} of {total}"]
            )
    head = ["clients", "p50 ms alone", "shadowed", "ratio", "p99 ms alone", "shadowed", "more", "pictures it saw"]
    note = f"one inference of the challenger {one_ms:.1f} ms; {CORES} cores, {rounds} rounds"
    return markdown(head, rows, note)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shadow", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6, help="of one round of one server")
    parser.add_argument("--model", type=Path, help="an .onnx; default: yolo11n of 320 px with random weights")
    parser.add_argument("--challenger", type=Path, help="an .onnx; default: the model")
    parser.add_argument("--share", type=float, default=0.05, help="of the pictures that the challenger sees")
    options = parser.parse_args(arguments)
    model = (options.model or models([320])[320]).resolve()
    challenger = (options.challenger or model).resolve()
    print(compare(model, challenger, options.share, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
