"""CPU time that traces cost: the server with a collector and without, in turns.

`python -m benchmarks.traces [--rounds N] [--model MODEL.onnx]` measures CPU-ms of a request, a picture of 810 x 1080.
"""

import argparse
import contextlib
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.load import ask, multipart
from benchmarks.pictures import photos
from benchmarks.rounds import in_turn, ratio
from benchmarks.server import models, ours, started
from tests.support.answering import Handler, answering
from tests.support.processes import free_port

REQUESTS = 60  # of a round


class Collector(Handler):
    """Takes what is sent, and forgets it."""

    def do_POST(self) -> None:  # noqa: N802
        """Read a batch of spans."""
        self.body()
        self.answer(200)


def main(arguments: list[str] | None = None) -> None:
    """Measure both in turns, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", type=Path, help="an .onnx; default: yolo11n of 320 px with random weights")
    options = parser.parse_args(arguments)
    settings = {"MODEL_URI": str((options.model or models([320])[320]).resolve()), "WORKERS": "1"}
    bodies = [multipart(next(photos(1, 810, 1080)))]
    with answering(Collector) as collector, contextlib.ExitStack() as stack:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}
        contestants = {}
        for name, more in (("without", {}), ("with", endpoint)):
            port = free_port()
            pid = stack.enter_context(started(ours(port), port, "/readyz", **settings, **more))
            contestants[name] = partial(ask, port, "/detect", bodies, count=REQUESTS, pid=pid)
            contestants[name]()  # warm
        off, on = ([each.cpu_ms for each in measured] for measured in in_turn(contestants, options.rounds).values())
    print(f"without traces {median(off):.2f} CPU-ms a request, with {median(on):.2f};", end=" ")
    print(f"median of {options.rounds} ratios {ratio(on, off):.3f}")


if __name__ == "__main__":
    main()
