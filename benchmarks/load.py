"""Load generator: clients that send requests to a local server as fast as it answers; latency and CPU time."""

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

BOUNDARY = "picture-boundary"


@dataclass(frozen=True)
class Measured:
    """Result of one round.

    Attributes:
        per_second: requests answered.
        cpu_ms: CPU time of the server and its children per request.
        p50_ms: median latency.
        p99_ms: 99th percentile of the latency.
        errors: responses with another status than 200.
    """

    per_second: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    errors: int


def multipart(data: bytes, *, name: str = "file", filename: str = "picture.jpg") -> bytes:
    """Return a form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    return head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> int:
    """Send a form and read the answer; return its status."""
    connection.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    response = connection.getresponse()
    response.read()
    return response.status


def ask(port: int, path: str, body: bytes, *, clients: int, seconds: float, pid: int) -> Measured:
    """Run clients for `seconds`, each on its own connection."""
    times: list[float] = []
    errors: list[int] = []
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (start := time.perf_counter()) < end:
            if (status := post(connection, path, body)) == 200:
                times.append((time.perf_counter() - start) * 1e3)
            else:
                errors.append(status)
        connection.close()

    before, began = cpu_seconds(pid), time.perf_counter()
    in_threads(client, clients)
    took, used = time.perf_counter() - began, cpu_seconds(pid) - before
    ordered = sorted(times)
    return Measured(
        len(ordered) / took,
        used / max(1, len(ordered)) * 1e3,
        ordered[len(ordered) // 2],
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        len(errors),
    )


def in_threads(work: Callable[[], None], count: int) -> None:
    """Run the same work in several threads, and wait for them."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children so far."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
