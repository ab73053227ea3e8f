"""How fast the model server is, beside its own bare loop and beside what others write, in one run on the same cores.

`python -m benchmarks.server` needs the extra `train` for the models and for the peers. LitServe is measured where
PEERS_PYTHON names a Python that has it beside Ultralytics and python-multipart (or where this one does).
"""

import argparse
import contextlib
import http.client
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import Measured, ask, measure, multipart, resident_mb
from benchmarks.pictures import photos
from benchmarks.rounds import CORES, FOLDER, markdown, ratio
from serving.vision.detector import Detector
from tests.support.processes import free_port, start

PEERS = {
    "once": "FastAPI + Ultralytics, loaded once",
    "each": "the workshop's way",
    "litserve": "LitServe + Ultralytics",
}
OURS, LOOP, ONE = "our server", "bare loop", "bare loop, one session"


def models(sizes: list[int]) -> dict[int, Path]:
    """Export yolo11n with random weights for each size as our stage does; the weights for the peers are beside it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    weights = FOLDER / "yolo11n.pt"
    paths = {size: FOLDER / f"yolo11n-{size}-free.onnx" for size in sizes}
    if not weights.exists() or not all(path.exists() for path in paths.values()):
        from ultralytics import YOLO

        YOLO("yolo11n.yaml").save(str(weights))
        for size, path in paths.items():
            exported = YOLO(str(weights)).export(format="onnx", imgsz=size, dynamic=True)
            Path(exported).rename(path)
    return paths


def bare_loop(detector: Detector, data: bytes, workers: int, seconds: float) -> Measured:
    """Measure decode, letterbox, inference and suppression in threads without HTTP."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        while (began := time.perf_counter()) < end:
            detector.detect(data)
            times.append((time.perf_counter() - began) * 1e3)

    return measure(work, workers, os.getpid(), times, errors=())


@contextlib.contextmanager
def started(command: list[str], port: int, ready: str, **environment: str) -> Iterator[int]:
    """Run a server in its own process group until the block ends; yield its process id."""

    def answers() -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", ready)
            return connection.getresponse().status < 400

    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / f"{port}.log"
    process = start(command, log, answers, env={**os.environ, **environment}, start_new_session=True)
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ours(port: int) -> list[str]:
    """Return the command of our server."""
    return [
        *(sys.executable, "-m", "uvicorn", "serving.app:create_app", "--factory"),
        *("--port", str(port), "--no-server-header"),
    ]


def peers(size: int, names: list[str]) -> dict[str, tuple[list[str], int]]:
    """Return the commands of the peers that can run here, and their ports."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    commands = {}
    for name in names:
        if name == "litserve" and subprocess.run([python, "-c", "import litserve"], capture_output=True).returncode:
            print("LitServe is not installed; PEERS_PYTHON can name a Python that has it beside ultralytics")
            continue
        port = free_port()
        arguments = [name, str(port), str((FOLDER / "yolo11n.pt").resolve()), str(size)]
        commands[name] = ([python, "-m", "benchmarks.server_peers", *arguments], port)
    return commands


def compare(size: int, model: Path, names: list[str], rounds: int, seconds: float) -> dict[str, list[Measured]]:
    """Measure the servers in turn, so that other load affects all alike; idle servers are stopped."""
    data = next(photos(1, 810, 1080))
    bodies = {PEERS["litserve"]: multipart(data, name="request")}  # LitServe's name of the field
    usual = multipart(data)
    results: dict[str, list[Measured]] = {}
    detector, wide = Detector(model, threads=1), Detector(model, threads=CORES)
    with contextlib.ExitStack() as stack:
        port = free_port()
        pid = stack.enter_context(started(ours(port), port, "/readyz", MODEL_URI=str(model)))
        servers = {OURS: (pid, port)}
        for name, (command, peer_port) in peers(size, names).items():
            path = "/health" if name == "litserve" else "/openapi.json"
            servers[PEERS[name]] = (stack.enter_context(started(command, peer_port, path)), peer_port)
        for name, (pid, port) in servers.items():
            ask(port, "/detect", [bodies.get(name, usual)], clients=2, seconds=1, pid=pid)  # warm-up
            os.killpg(pid, signal.SIGSTOP)
        for _ in range(rounds):
            results.setdefault(LOOP, []).append(bare_loop(detector, data, CORES, seconds))
            results.setdefault(ONE, []).append(bare_loop(wide, data, 1, seconds))
            for name, (pid, port) in servers.items():
                os.killpg(pid, signal.SIGCONT)
                results.setdefault(name, []).append(
                    ask(port, "/detect", [bodies.get(name, usual)], clients=4, seconds=seconds, pid=pid)
                )
                if name == OURS:
                    print(f"{size} px: {results[name][-1].per_second:.1f}/s, {resident_mb(pid):.0f} MB resident")
                os.killpg(pid, signal.SIGSTOP)
    return results


def table(size: int, results: dict[str, list[Measured]]) -> str:
    """Return Markdown: medians of the rounds, and the median of the rounds' ratios to our server."""
    digits = {"per_second": 1, "cpu_ms": 1, "p50_ms": 0, "p99_ms": 0}
    rows = []
    for name, measured in results.items():
        figures = {key: [getattr(each, key) for each in measured] for key in digits}
        medians = [f"{statistics.median(figures[key]):.{places}f}" for key, places in digits.items()]
        times = ratio((each.per_second for each in results[OURS]), figures["per_second"])
        rows.append([name, *medians, f"{times:.2f}"])
    errors = sum(each.errors for measured in results.values() for each in measured)
    head = [f"{size} px, 4 clients", "requests/s", "CPU-ms each", "p50 ms", "p99 ms", "ours is … times"]
    return markdown(head, rows, f"{CORES} cores, {len(results[OURS])} rounds, {errors} errors")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 320], help="pixels of the model's input")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6, help="of one round of one contestant")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    options = parser.parse_args(arguments)
    for size, model in models(options.sizes).items():
        print(table(size, compare(size, model, options.peers, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
