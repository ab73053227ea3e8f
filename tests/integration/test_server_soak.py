"""Many requests of good and bad clients (SOAK: how many), and those that schemathesis makes up: no error of ours."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.support.servers import BOUNDARY, Server, form
from tests.support.shades import shade

REQUESTS = int(os.environ.get("SOAK", "600"))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
GROWTH_MB = 15  # of one round; what the allocator keeps comes once, in a first or second one, what leaks in each
ROUNDS = 4


def test_no_error_and_no_growth_when_clients_are_good_and_bad(server: Server) -> None:
    pictures = {value: shade(value, value * 4, value * 4) for value in range(90, 250, 20)}
    statuses: Counter[int] = Counter()

    def sent(value: int, pieces: int, of: int, *, waits: bool) -> None:
        """Send some of the pieces of a request, and hang up, or wait for the answer."""
        body = form([("file", "a.png", pictures[value])])
        kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}"
        whole = f"POST /detect HTTP/1.1\r\nHost: x\r\n{kind}\r\n\r\n".encode() + body
        step = len(whole) // of + 1
        with server.connect() as connection:
            for place in range(0, pieces * step, step):
                connection.sendall(whole[place : place + step])
                time.sleep(0.02 if waits else 0)
            assert not waits or connection.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 503")

    half, deaf = partial(sent, pieces=1, of=2, waits=False), partial(sent, pieces=1, of=1, waits=False)
    slow = partial(sent, pieces=6, of=6, waits=True)

    def wrong(value: int) -> None:
        statuses[server.post("/detect", b"\x89PNG\r\n\x1a\n" + bytes([value])).status] += 1

    def good(value: int) -> None:
        answer = server.post("/detect", pictures[value])
        statuses[answer.status] += 1
        if answer.status == 200:  # the answer belongs to its picture
            found = answer.json()
            best = max(found["detections"], key=lambda each: each["class_id"] == 0)
            assert (found["width"], best["confidence"]) == (value * 4, pytest.approx(value / 255, abs=0.002))

    def drawn(value: int) -> None:
        statuses[server.post("/detect/image", pictures[value]).status] += 1

    def batch(value: int) -> None:
        answer = server.post_form("/detect/batch", [("files", "a", pictures[value]), ("files", "b", b"x")])
        statuses[answer.status] += 1

    kinds: list[Callable[[int], None]] = [good, good, good, good, drawn, batch, wrong, half, slow, deaf]

    def one(place: int) -> None:
        generator = random.Random(place)
        generator.choice(kinds)(generator.choice(list(pictures)))

    def many(count: int) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(count)))

    many(150)
    resident = [server.resident_mb()]
    while len(resident) == 1 or resident[-1] - resident[-2] >= GROWTH_MB:
        assert len(resident) <= ROUNDS, f"resident MB after each {REQUESTS} requests: {resident}"
        many(REQUESTS)
        resident.append(server.resident_mb())
    assert set(statuses) <= {200, 400, 503}
    assert statuses[200] > REQUESTS / 3
    time.sleep(0.5)
    metrics = server.get("/metrics").body.decode()
    assert 'status="500"' not in metrics
    assert "flywheel_held_bytes 0.0" in metrics
    assert "flywheel_queue_length 0.0" in metrics
    assert not [line for line in server.lines() if line["level"] == "ERROR"]
    print(f"{dict(statuses)}; resident MB after each {REQUESTS} requests: {resident}")


def test_no_500_when_requests_are_made_up(server: Server, tmp_path: Path) -> None:
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{server.port}/openapi.json"),
        *("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.get("/readyz").status == 200
    assert not [line for line in server.lines() if line["level"] == "ERROR"]
