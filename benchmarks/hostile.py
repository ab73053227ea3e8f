"""A server under hostile and honest clients at once, with the memory limit of its pod.

`python -m benchmarks.hostile` shows how many honest requests are answered, and how much memory the server and its
decoder processes take. It needs to make a control group (root, memory controller).
"""

import argparse
import collections
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from benchmarks.rounds import FOLDER
from serving.decoding import budget
from serving.settings import Settings
from tests.support import hostile
from tests.support.memory_groups import MemoryGroup, memory_group
from tests.support.pictures import encoded
from tests.support.processes import free_port, start, stop
from tests.support.servers import Server

DEPLOYMENT = Path(__file__).resolve().parents[1] / "gitops/serving/base/deployment.yaml"
SIDE = 7_000  # 49 megapixels


def pod_memory() -> int:
    """Return the memory limit of the manifest in bytes."""
    pod = yaml.safe_load(DEPLOYMENT.read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    text = pod["containers"][0]["resources"]["limits"]["memory"]
    return int(text[:-2]) << {"Mi": 20, "Gi": 30}[text[-2:]]


def declared_memory(limit: int) -> int:
    """Return the decode budget that the server takes by default where its container has this limit."""
    settings = Settings()
    others = settings.max_held_bytes + settings.capture_queue_bytes + settings.recent_bytes
    real, budget.memory_limit = budget.memory_limit, lambda files=(): limit
    try:
        return budget.decode_memory(others)
    finally:
        budget.memory_limit = real


@contextmanager
def limited(group: MemoryGroup, folder: Path, limit: int, **environment: str) -> Iterator[Server]:
    """Run a server in a group, with the settings that it would have in a container of this limit."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(free_port(), folder / "hostile.log")
    command = (sys.executable, "-m", "uvicorn", "serving.app:create_app", "--factory", "--port", str(server.port))
    settings = {"WORKERS": "2", "DECODE_MEMORY_BYTES": str(declared_memory(limit)), "MALLOC_ARENA_MAX": "2"}
    server.process = start(
        [*group.command, *command],
        server.log,
        lambda: server.get("/readyz").status == 200,
        env=os.environ | settings | environment,
    )
    try:
        yield server
    finally:
        stop(server.process)


def largest() -> dict[str, bytes]:
    """Return the costliest pictures that are allowed, one of each format."""
    image = Image.new("RGB", (SIDE, SIDE), "#336699")
    kinds: dict[str, dict[str, Any]] = {
        "WEBP": {"method": 0},
        "JPEG2000": {"irreversible": True},
        "AVIF": {"speed": 10},
        "JPEG": {"progressive": True, "subsampling": 0},
        "PNG": {"compress_level": 1},
        "TIFF": {"compression": "tiff_deflate"},
        "GIF": {},
    }
    return {kind: encoded(image, kind, **options) for kind, options in kinds.items()}


def attacks() -> dict[str, bytes]:
    """Return files that ask for much."""
    return {
        "tile": hostile.tiff_of_a_tile(26_000, rle=hostile.zeros(60_000_000)),
        "scans": hostile.jpeg_of_scans(2_000, 4_000),
        "allowed scans": hostile.jpeg_of_scans(99, 7_000),
        "chunks": hostile.png_of([(b"teSt", b"")] * 60_000),
        "comments": hostile.gif_of_comments(40_000),
        "frame": hostile.gif_with_a_large_frame(60_000),
        "pixels": hostile.webp_of(16_384, 16_384),
    }


def soak(server: Server, group: MemoryGroup, seconds: float, pictures: dict[str, bytes]) -> dict[str, Any]:
    """Send honest and hostile requests at once; return what came of them."""
    small = Image.effect_noise((810, 1080), 60).convert("RGB")
    honest = {kind: encoded(small, kind) for kind in ("JPEG", "PNG", "WEBP")}
    bad = attacks() | pictures
    counts: dict[str, collections.Counter[int]] = {"honest": collections.Counter(), "hostile": collections.Counter()}
    times: list[float] = []
    resting, files = group.resident, descriptors(server)
    end = time.monotonic() + seconds

    def client(name: str, bodies: dict[str, bytes], path: Callable[[int], str], first: int) -> None:
        for number, data in enumerate(itertools.islice(itertools.cycle(bodies.values()), first, None)):
            if (began := time.monotonic()) > end:
                return
            try:
                status = server.post(path(number), data).status
            except OSError:
                status = 0
            counts[name][status] += 1
            if name == "honest":
                times.append(time.monotonic() - began)

    threads = [
        *(threading.Thread(target=client, args=("honest", honest, lambda _: "/detect", each)) for each in range(2)),
        *(
            threading.Thread(
                target=client, args=("hostile", bad, lambda n: "/detect/image" if n % 3 == 2 else "/detect", 4 * each)
            )
            for each in range(4)
        ),
    ]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, group.resident)
        time.sleep(0.05)
    time.sleep(3)
    times.sort()
    return {
        **counts,
        "p50_s": times[len(times) // 2],
        "p99_s": times[int(len(times) * 0.99)],
        "resting": resting,
        "most": most,
        "after": group.resident,
        "descriptors": (files, descriptors(server)),
        "killed": group.killed,
    }


def descriptors(server: Server) -> int:
    """Return the open files of the server."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="of --seconds each")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--model", default=os.environ.get("MODEL_URI"), help="an .onnx; default: MODEL_URI")
    options = parser.parse_args(arguments)
    if not options.model:
        parser.error("no model; name one with --model")
    limit = pod_memory()
    pictures = largest()
    for _ in range(options.rounds):
        with memory_group(limit) as group:
            if group is None:
                print("this machine lets nobody make a control group: skipped")
                return
            with limited(group, FOLDER, limit, MODEL_URI=options.model) as server:
                result = soak(server, group, options.seconds, pictures)
        print(table(result, limit))


def table(result: dict[str, Any], limit: int) -> str:
    """Return what came of it as text."""
    honest, bad = result["honest"], result["hostile"]
    mb = {name: f"{result[name] / 2**20:.0f}" for name in ("resting", "most", "after")}
    return "\n".join(
        [
            f"honest: {honest[200]} of {honest.total()} answered, p50 {result['p50_s']:.2f} s, p99 "
            f"{result['p99_s']:.2f} s, statuses {dict(honest)}",
            f"hostile: {dict(bad)}",
            f"memory of the group: {mb['resting']} MiB at rest, at most {mb['most']} MiB, {mb['after']} MiB after; "
            f"budget {declared_memory(limit) >> 20} MiB, 80 % of the pod's limit {int(0.8 * limit) >> 20} MiB",
            f"open files {result['descriptors'][0]} before, {result['descriptors'][1]} after; killed {result['killed']}",
        ]
    )


if __name__ == "__main__":
    main()
