"""Honest clients while hostile ones send costly pictures, hold connections, flood and stall, in the memory of a pod.

`python -m benchmarks.soak [--seconds N] [--model MODEL.onnx] [--files FOLDER]`: every file of the folder is sent as a
picture too. It fails where fewer than 99.5 % of honest requests are answered; where the server and its children take
more than the decode budget above what they held at rest, or more than 80 % of the pod's limit; where they do not come
back to 50 MB above that; and where files stay open. It needs to make a control group (root, memory controller).
"""

import argparse
import contextlib
import http.client
import itertools
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from PIL import Image

from benchmarks.load import multipart, post
from benchmarks.rounds import CORES, FOLDER
from benchmarks.server import models
from tests.support import hostile
from tests.support.memory_groups import MemoryGroup, declared_memory, limited, memory_group, pod_memory
from tests.support.pictures import encoded
from tests.support.servers import BOUNDARY, Server

ENOUGH = 0.995  # of honest requests
WARM = 100  # requests before; then the server remembers as many answered pictures as RECENT_BYTES allows
TRIES = 3  # of an honest request that is told to come again
BACK_BYTES = 50_000_000  # above what was held at rest
SETTLE_SECONDS = 60.0  # the server's own limits end what hangs in 30
HEAD = f"Host: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
Attack = Callable[[int], None]  # on a port; does its worst once


class Held(NamedTuple):
    """What the server and its children hold."""

    memory: int  # bytes, without files of the page cache
    files: int  # open ones of the server itself


class Result(NamedTuple):
    """What came of a soak."""

    statuses: Counter[str]  # of honest requests, the last of up to TRIES each
    again: int  # tries that an honest request was told to repeat
    seconds: list[float]  # that honest requests took, sorted
    resting: Held
    peak: int  # bytes
    after: Held
    killed: int  # processes, by the kernel

    @property
    def answered(self) -> float:
        """Share of honest requests that got their boxes, 0 to 1."""
        return self.statuses["200"] / max(1, self.statuses.total())


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
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            post(connection, path, multipart(data))

    return attack


def senders() -> dict[str, Attack]:
    """Return what hostile clients do with a connection, by name."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'.encode()
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="boxes"\r\n\r\n'.encode()
    boxes = field + b"[" + b"{}," * 1_000_000 + b"{}]\r\n" + f"--{BOUNDARY}--\r\n".encode()
    return {
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


def pictures(files: Path | None) -> dict[str, Attack]:
    """Return the hostile pictures and the costliest that are allowed, by name: for boxes, then drawn."""
    data = hostile.attacks() | hostile.largest()
    data |= {each.name: each.read_bytes() for each in sorted(files.iterdir() if files else ())}
    paths = ("/detect", "/detect/image")
    return {f"{name} {path}": picture(each, path) for path in paths for name, each in data.items()}


class Honest:
    """Clients that send usual pictures, and come again when they are told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.statuses: Counter[str] = Counter()
        self.again = 0
        self.seconds: list[float] = []
        usual = Image.effect_noise((810, 1080), 60).convert("RGB")
        self._bodies = [multipart(encoded(usual, kind)) for kind in ("JPEG", "PNG", "WEBP")]

    def work(self, end: threading.Event) -> None:
        """Send a picture after the other."""
        for body in itertools.cycle(self._bodies):
            if end.wait(0.05):
                return
            start = time.perf_counter()
            self.statuses[self._ask(body)] += 1
            self.seconds.append(time.perf_counter() - start)

    def _ask(self, body: bytes) -> str:
        said = ""
        for left in reversed(range(TRIES)):
            try:
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
                    said = str(post(connection, "/detect", body))
            except (OSError, http.client.HTTPException) as error:
                said = type(error).__name__
            if said == "200" or not left:
                break
            self.again += 1
            time.sleep(1)
        return said


def soak(server: Server, group: MemoryGroup, seconds: float, files: Path | None) -> Result:
    """Attack a server while honest clients use it; return what came of it."""
    port, process = server.port, psutil.Process(server.process.pid)

    def held() -> Held:
        return Held(group.resident, process.num_fds())

    def run(work: Callable[[threading.Event], None], count: int, end: threading.Event) -> list[threading.Thread]:
        threads = [threading.Thread(target=work, args=(end,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def attacking(kinds: list[Attack], first: int) -> Callable[[threading.Event], None]:
        def work(end: threading.Event) -> None:
            for attack in itertools.islice(itertools.cycle(kinds), first, None):
                if end.is_set():
                    return
                with contextlib.suppress(OSError, http.client.HTTPException):
                    attack(port)

        return work

    warm, end = threading.Event(), threading.Event()
    honest = Honest(port)
    threads = run(honest.work, 4, warm)
    while honest.statuses.total() < WARM:
        time.sleep(0.1)
    warm.set()
    for thread in threads:
        thread.join()
    time.sleep(1)
    resting = held()
    honest = Honest(port)
    threads = run(honest.work, 2, end)
    by_picture, by_connection = list(pictures(files).values()), list(senders().values())
    for kinds, first in [(by_picture, 7 * each) for each in range(4)] + [
        (by_connection, 2 * each) for each in range(5)
    ]:
        threads += run(attacking(kinds, first), 1, end)
    peak, until = resting.memory, time.monotonic() + seconds
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, group.resident)
        if time.monotonic() > until:
            end.set()
        time.sleep(0.05)
    until = time.monotonic() + SETTLE_SECONDS
    while (after := held()).memory > resting.memory + BACK_BYTES or after.files > resting.files:
        if time.monotonic() > until:
            break
        time.sleep(0.5)
    return Result(honest.statuses, honest.again, sorted(honest.seconds), resting, peak, after, group.killed)


def faults(result: Result, limit: int) -> list[str]:
    """Return what does not hold, in words; `limit` is the pod's, in bytes."""
    budget = declared_memory(limit)
    kept = {
        f"fewer than {ENOUGH:.1%} of honest requests were answered": result.answered >= ENOUGH,
        "it took more than its decode budget": result.peak <= result.resting.memory + budget,
        "it took more than 80 % of the pod's limit": result.peak <= 0.8 * limit,
        "it keeps more than 50 MB": result.after.memory <= result.resting.memory + BACK_BYTES,
        "files stay open": result.after.files <= result.resting.files,
        "the kernel killed a process": result.killed == 0,
    }
    return [text for text, holds in kept.items() if not holds]


def table(result: Result, limit: int, lines: int) -> str:
    """Return what came of it as text; `lines` of its log."""
    total, times = result.statuses.total(), result.seconds
    resting, peak, after = (each / 1e6 for each in (result.resting.memory, result.peak, result.after.memory))
    return "\n".join(
        [
            f"{result.answered:.2%} of {total} honest requests answered {dict(result.statuses)}, {result.again} tries "
            f"more; p50 {times[total // 2]:.2f} s, p99 {times[int(total * 0.99)]:.2f} s",
            f"memory {resting:.0f} MB at rest, at most {peak:.0f}, {after:.0f} after; decode budget "
            f"{declared_memory(limit) / 1e6:.0f}, 80 % of the pod's limit {0.8 * limit / 1e6:.0f}",
            f"open files {result.resting.files}, {result.after.files} after; {result.killed} killed; {lines} log lines",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run both kinds of clients for a while, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="[s] of the attacks")
    parser.add_argument("--model", type=Path, help="an .onnx; default: yolo11n of 320 px with random weights")
    parser.add_argument("--files", type=Path, help="folder of hostile pictures")
    parser.add_argument("--rounds", type=int, default=1, help="of --seconds each")
    options = parser.parse_args(arguments)
    model = (options.model or models([320])[320]).resolve()
    limit, found = pod_memory(), list[str]()
    for _ in range(options.rounds):
        with memory_group(limit) as group:
            if group is None:
                print("this machine lets nobody make a control group: skipped")
                return
            settings = {"MODEL_URI": str(model), "CAPTURE_URI": str(FOLDER / "captures")}
            with limited(group, FOLDER, limit, **settings) as server:
                result = soak(server, group, options.seconds, options.files)
                print(f"{options.seconds:g} s, {CORES} cores\n{table(result, limit, len(server.lines()))}", flush=True)
        found += faults(result, limit)
    if found:
        sys.exit("; ".join(found))


if __name__ == "__main__":
    main()
