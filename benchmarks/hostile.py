"""A server under hostile and honest clients at once, with the memory limit of its pod.

`python -m benchmarks.hostile` shows how many honest requests are answered, and how much memory the server and its
decoder processes take. It needs to make a control group (root, memory controller).
"""

import argparse
import collections
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.rounds import FOLDER
from tests.support.hostile import attacks, largest
from tests.support.memory_groups import MemoryGroup, declared_memory, limited, memory_group, pod_memory
from tests.support.pictures import encoded
from tests.support.servers import Server


def soak(server: Server, group: MemoryGroup, seconds: float, pictures: dict[str, bytes]) -> dict[str, Any]:
    """Send honest and hostile requests at once; return what came of them."""
    small = Image.effect_noise((810, 1080), 60).convert("RGB")
    honest = {kind: encoded(small, kind) for kind in ("JPEG", "PNG", "WEBP")}
    bad = attacks() | pictures
    counts: dict[str, collections.Counter[int]] = {"honest": collections.Counter(), "hostile": collections.Counter()}
    times: list[float] = []
    for data in list(honest.values()) * 8:  # as a server rests that has answered
        server.post("/detect", data)
    time.sleep(1)
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
    time.sleep(5)
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
            f"open files before and after: {result['descriptors']}; killed: {result['killed']}",
        ]
    )


if __name__ == "__main__":
    main()
