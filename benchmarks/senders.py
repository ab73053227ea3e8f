"""Whether honest clients are answered while hostile senders do their worst, and what the server takes for it.

`python -m benchmarks.senders [--model MODEL.onnx] [--files FOLDER]`: every file of the folder is sent as a picture too
(hostile pictures are the subject of another benchmark). It fails below 99.5 % of honest requests answered.
"""

import argparse
import contextlib
import http.client
import itertools
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.load import BOUNDARY, multipart, post
from benchmarks.pictures import photos
from benchmarks.rounds import FOLDER
from benchmarks.server import models, ours, started
from tests.support.processes import free_port

ENOUGH = 0.995  # of honest requests
TRIES = 3  # of an honest request that is told to come again
HEAD = f"Host: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
Attack = Callable[[int], None]  # on a port; does its worst once


def sends(*pieces: bytes, waits: float = 0.5, path: str = "POST /detect", length: int | None = None) -> Attack:
    """Return the attack of a connection that sends these pieces, one after the other, and hangs up after a wait."""
    announced = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    head = f"{path} HTTP/1.1\r\n{HEAD}{announced}\r\n\r\n".encode() if path else b""

    def attack(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(head)
            for piece in pieces:
                connection.sendall(piece)
            time.sleep(waits)

    return attack


def idle(port: int) -> None:
    """Hold many connections with half a request, as long as the server lets them be."""
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)).sendall(b"GET /hea")
        time.sleep(5)


def deaf(port: int) -> None:
    """Ask for much, and read none of it."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(5)
        connection.sendall(b"GET /static/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        time.sleep(10)


def picture(data: bytes, path: str = "/detect") -> Attack:
    """Return the attack of a client that sends a hostile picture, and waits for the answer."""

    def attack(port: int) -> None:
        post(http.client.HTTPConnection("127.0.0.1", port, timeout=60), path, multipart(data))

    return attack


def attacks(files: Path | None) -> dict[str, Attack]:
    """Return what hostile clients do, by name."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'.encode()
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="boxes"\r\n\r\n'.encode()
    boxes = field + b"[" + b"{}," * 1_000_000 + b"{}]\r\n" + f"--{BOUNDARY}--\r\n".encode()
    found: dict[str, Attack] = {
        "idle": idle,
        "deaf": deaf,
        "one byte chunks": sends(b"%x\r\n" % len(part), part + b"\r\n", b"1\r\n0\r\n" * 300_000),
        "stands still": sends(part + bytes(19_000_000), length=20_000_000, waits=20),
        "half a video": sends(path="POST /detect/video", length=5_000, waits=20),
        "boxes": sends(boxes, path="POST /feedback", length=len(boxes)),
        "endless head": sends(b"X: y\r\n" * 100_000, path=""),
        "trailers": sends(b"0\r\n" + b"X: y\r\n" * 100_000),
        "no form": sends(b"\0" * 1_000_000, length=1_000_000),
        "no http": sends(random.Random(0).randbytes(100_000), path=""),
    }
    return found | {each.name: picture(each.read_bytes()) for each in sorted(files.iterdir() if files else ())}


class Honest:
    """Clients that send usual pictures, and come again when they are told to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.statuses: Counter[str] = Counter()
        self.times: list[float] = []
        self._body = multipart(next(photos(1, 810, 1080)))

    def work(self, end: threading.Event) -> None:
        """Send a picture after the other."""
        while not end.wait(0.1):
            start = time.perf_counter()
            self.statuses[self._ask()] += 1
            self.times.append(time.perf_counter() - start)

    def _ask(self) -> str:
        said = ""
        for _ in range(TRIES):
            try:
                status = post(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60), "/detect", self._body)
            except (OSError, http.client.HTTPException) as error:
                said = type(error).__name__
            else:
                said = str(status)
            if said == "200":
                break
            time.sleep(1)
        return said


def megabytes(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    members = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    total = 0
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += member.memory_info().rss
    return total / 1e6


def main(arguments: list[str] | None = None) -> None:
    """Run both kinds of clients for a while, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.senders", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="[s] of the attacks")
    parser.add_argument("--model", type=Path, help="an .onnx; default: yolo11n of 320 px with random weights")
    parser.add_argument("--files", type=Path, help="folder of hostile pictures")
    parser.add_argument("--rounds", type=int, default=1, help="is ignored: one run says all")
    options = parser.parse_args(arguments)
    model = (options.model or models([320])[320]).resolve()
    kinds, port, end = attacks(options.files), free_port(), threading.Event()
    settings = {
        "MODEL_URI": str(model),
        "CAPTURE_URI": str(FOLDER / "captures"),
        "MALLOC_ARENA_MAX": "2",  # as the image sets
    }
    with started(ours(port), port, "/readyz", **settings) as pid:
        honest, warm = Honest(port), threading.Event()
        first = [threading.Thread(target=honest.work, args=(warm,)) for _ in range(4)]
        for thread in first:
            thread.start()
        time.sleep(options.seconds / 4)
        warm.set()
        for thread in first:
            thread.join()
        honest.statuses.clear()
        honest.times.clear()
        resting, files = megabytes(pid), psutil.Process(pid).num_fds()
        peak = [resting]

        def attack(place: int) -> None:
            for name in itertools.islice(itertools.cycle(kinds), place, None):
                if end.is_set():
                    return
                with contextlib.suppress(OSError, http.client.HTTPException):
                    kinds[name](port)

        def watch() -> None:
            while not end.wait(0.1):
                peak[0] = max(peak[0], megabytes(pid))

        threads = [threading.Thread(target=attack, args=(place,)) for place in range(0, len(kinds), 2)]
        threads += [threading.Thread(target=honest.work, args=(end,)) for _ in range(2)]
        threads.append(threading.Thread(target=watch))
        for thread in threads:
            thread.start()
        time.sleep(options.seconds)
        end.set()
        for thread in threads:
            thread.join()
        time.sleep(options.seconds / 2)
        after, left = megabytes(pid), psutil.Process(pid).num_fds()
        lines = len((FOLDER / f"{port}.log").read_text().splitlines())
    total = honest.statuses.total()
    share = honest.statuses["200"] / max(1, total)
    times = sorted(honest.times)
    print(f"{len(kinds)} kinds of attacks, {options.seconds:g} s, {os.cpu_count()} cores")
    print(f"{share:.2%} of {total} honest requests answered {dict(honest.statuses)}; median {times[total // 2]:.2f} s")
    print(f"memory {resting:.0f} MB, peak {peak[0]:.0f}, after {after:.0f}; files {files}, {left}; {lines} lines")
    if share < ENOUGH:
        sys.exit(f"fewer than {ENOUGH:.1%} of honest requests were answered")


if __name__ == "__main__":
    main()
