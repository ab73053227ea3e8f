"""Load generator: clients that send requests to a local server as fast as it answers; latency and CPU time."""

import http.client
import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from tests.support.servers import BOUNDARY, form


@dataclass(frozen=True)
class Measured:
    """Result of one round."""

    per_second: float  # requests answered
    cpu_ms: float  # CPU time of the server and its children per request
    p50_ms: float  # median latency
    p99_ms: float  # 99th percentile of the latency
    errors: int  # responses with another status than 200


def multipart(data: bytes, *, name: str = "file") -> bytes:
    """Return a form with one file."""
    return form([(name, "picture.jpg", data)])


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> int:
    """Send a form and read the answer; return its status."""
    connection.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    response = connection.getresponse()
    response.read()
    return response.status


def ask(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    *,
    pid: int,
    clients: int = 1,
    seconds: float = math.inf,
    count: int | None = None,
) -> Measured:
    """Run clients, each on its own connection, which send the bodies in turn, for so long or so many requests each."""
    times: list[float] = []
    errors: list[int] = []
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for body in itertools.islice(itertools.cycle(bodies), count):
            if (start := time.perf_counter()) >= end:
                break
            if (status := post(connection, path, body)) == 200:
                times.append((time.perf_counter() - start) * 1e3)
            else:
                errors.append(status)
        connection.close()

    return measure(client, clients, pid, times, errors)


def measure(work: Callable[[], None], threads: int, pid: int, times: list[float], errors: Sequence[int]) -> Measured:
    """Run the same work in threads, which add their latencies in ms to `times`, and the statuses of failed requests."""
    before, began = cpu_seconds(pid), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: work(), range(threads)))
    took, used = time.perf_counter() - began, cpu_seconds(pid) - before
    times.sort()
    return Measured(
        len(times) / took,
        used / max(1, len(times)) * 1e3,
        times[len(times) // 2],
        times[min(len(times) - 1, int(len(times) * 0.99))],
        len(errors),
    )


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children so far."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return float(psutil.Process(pid).memory_info().rss / 2**20)
