"""CPU time that traces cost: the server with a collector and without, in turns.

`python -m benchmarks.traces [--rounds N] [--model MODEL.onnx]` measures CPU-ms of a request, a picture of 810 x 1080.
"""

import argparse
import http.client
import statistics
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from benchmarks.load import multipart, post
from benchmarks.pictures import photos
from benchmarks.server import models, ours, started
from tests.support.processes import free_port

REQUESTS = 60  # of a round


class Collector(BaseHTTPRequestHandler):
    """Takes what is sent, and forgets it."""

    def do_POST(self) -> None:
        """Read a batch of spans."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def cpu_ms(pid: int, port: int, body: bytes) -> float:
    """Return the CPU-ms of the server for a request."""
    process = psutil.Process(pid)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    before = process.cpu_times()
    for _ in range(REQUESTS):
        assert post(connection, "/detect", body) == 200
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) * 1e3 / REQUESTS


def main(arguments: list[str] | None = None) -> None:
    """Measure both in turns, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", type=Path, help="an .onnx; default: yolo11n of 320 px with random weights")
    options = parser.parse_args(arguments)
    settings = {"MODEL_URI": str((options.model or models([320])[320]).resolve()), "WORKERS": "1"}
    body, ports = multipart(next(photos(1, 810, 1080))), (free_port(), free_port())
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
        with (
            started(ours(ports[0]), ports[0], "/readyz", **settings) as without,
            started(ours(ports[1]), ports[1], "/readyz", **settings, **endpoint) as with_traces,
        ):
            for pid, port in ((without, ports[0]), (with_traces, ports[1])):
                cpu_ms(pid, port, body)  # warm
            rounds = [
                (cpu_ms(without, ports[0], body), cpu_ms(with_traces, ports[1], body)) for _ in range(options.rounds)
            ]
        collector.shutdown()
    off, on = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(one / other for other, one in rounds)
    print(f"without traces {off:.2f} CPU-ms a request, with {on:.2f}; median of {len(rounds)} ratios {ratio:.3f}")


if __name__ == "__main__":
    main()
