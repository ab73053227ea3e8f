"""How fast the model server is, beside its own bare loop and beside what others write, in one run on the same cores.

`python -m benchmarks.server` needs the extra `train` for the models and for the peers. LitServe is measured where
PEERS_PYTHON names a Python that has it beside Ultralytics and python-multipart (or where this one does).
"""

import argparse
import contextlib
import http.client
import io
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.load import Measured, ask, cpu_seconds, in_threads, multipart, resident_mb
from serving.vision.detector import Detector

FOLDER = Path(os.environ.get("RUNNER_WORK", ".work")) / "benchmarks"
PEERS = {
    "once": "FastAPI + Ultralytics, loaded once",
    "each": "the workshop's way",
    "litserve": "LitServe + Ultralytics",
}
OURS, LOOP, ONE = "our server", "bare loop", "bare loop, one session"
CORES = len(os.sched_getaffinity(0))


def picture() -> bytes:
    """Return a JPEG of 810 x 1080 pixels with the detail of a photo, about 200 kB; the same in every run."""
    random = np.random.default_rng(0)
    layers = np.zeros((1080, 810, 3), np.float32)
    for cells, weight in ((6, 60), (24, 30), (120, 16), (400, 7)):
        noise = random.normal(0, weight, (cells, max(1, cells * 3 // 4), 3)).astype(np.float32)
        for channel in range(3):
            layers[..., channel] += np.asarray(
                Image.fromarray(noise[..., channel]).resize((810, 1080), Image.Resampling.BICUBIC)
            )
    out = io.BytesIO()
    Image.fromarray(np.clip(layers + 120, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


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
        while (start := time.perf_counter()) < end:
            detector.detect(data)
            times.append((time.perf_counter() - start) * 1e3)

    before, began = cpu_seconds(os.getpid()), time.perf_counter()
    in_threads(work, workers)
    took, used = time.perf_counter() - began, cpu_seconds(os.getpid()) - before
    times.sort()
    return Measured(
        len(times) / took, used / len(times) * 1e3, times[len(times) // 2], times[int(len(times) * 0.99)], 0
    )


@contextlib.contextmanager
def started(command: list[str], port: int, ready: str, **environment: str) -> Iterator[int]:
    """Run a server in its own process group until the block ends; yield its process id."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until_ready(process, port, ready)
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


def wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str, seconds: float = 120) -> None:
    """Poll until the server answers.

    Raises:
        RuntimeError: the server exited, or does not answer in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status < 400:
                return
        time.sleep(0.05)
    raise RuntimeError(f"no server: {(FOLDER / f'{port}.log').read_text()[-3000:]}")


def free_port() -> int:
    """Return an unused port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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
    data = picture()
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
            ask(port, "/detect", bodies.get(name, usual), clients=2, seconds=1, pid=pid)  # warm-up
            os.killpg(pid, signal.SIGSTOP)
        for _ in range(rounds):
            results.setdefault(LOOP, []).append(bare_loop(detector, data, CORES, seconds))
            results.setdefault(ONE, []).append(bare_loop(wide, data, 1, seconds))
            for name, (pid, port) in servers.items():
                os.killpg(pid, signal.SIGCONT)
                results.setdefault(name, []).append(
                    ask(port, "/detect", bodies.get(name, usual), clients=4, seconds=seconds, pid=pid)
                )
                if name == OURS:
                    print(f"{size} px: {results[name][-1].per_second:.1f}/s, {resident_mb(pid):.0f} MB resident")
                os.killpg(pid, signal.SIGSTOP)
    return results


def table(size: int, results: dict[str, list[Measured]]) -> str:
    """Return Markdown: medians of the rounds, and the median of the rounds' ratios to our server."""
    lines = [
        f"| {size} px, 4 clients | requests/s | CPU-ms each | p50 ms | p99 ms | ours is … times |",
        "|---|---|---|---|---|---|",
    ]
    for name, measured in results.items():
        ratios = [mine.per_second / other.per_second for mine, other in zip(results[OURS], measured, strict=True)]
        lines.append(
            f"| {name} | {statistics.median(each.per_second for each in measured):.1f} "
            f"| {statistics.median(each.cpu_ms for each in measured):.1f} "
            f"| {statistics.median(each.p50_ms for each in measured):.0f} "
            f"| {statistics.median(each.p99_ms for each in measured):.0f} | {statistics.median(ratios):.2f} |"
        )
    errors = sum(each.errors for measured in results.values() for each in measured)
    return "\n".join([*lines, "", f"{CORES} cores, {len(results[OURS])} rounds, {errors} errors"])


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
