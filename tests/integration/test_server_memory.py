"""The defaults of the server fit the memory limit of its manifest, whatever is sent."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hostile import attacks, largest
from tests.support.memory_groups import declared_memory, limited, memory_group, pod_memory
from tests.support.processes import unavailable
from tests.support.shades import shade


@pytest.mark.slow
def test_alive_and_within_four_fifths_of_the_limit_when_the_largest_pictures_come_at_once(
    tmp_path: Path, bright_model: Path
) -> None:
    limit = pod_memory()
    pictures = largest()
    captures = {"CAPTURE_URI": str(tmp_path / "store"), "CAPTURE_STRATEGIES": "random:1"}
    with memory_group(limit) as group:
        if group is None:
            unavailable("no control group can be made here (root, and the memory controller)")
        with limited(group, tmp_path, limit, MODEL_URI=str(bright_model), REQUEST_SECONDS="25", **captures) as server:
            for value in range(90, 100):
                server.post("/detect", shade(value))
            resting = group.resident
            sent = [*pictures.items(), *attacks().items()] * 2
            with ThreadPoolExecutor(len(sent)) as pool:
                paths = ("/detect", "/detect/image")
                asked = [
                    (name, pool.submit(server.post, paths[number % 2], data))
                    for number, (name, data) in enumerate(sent)
                ]
                most = 0
                while not all(answer.done() for _, answer in asked):
                    most = max(most, group.resident)
                    time.sleep(0.05)
            statuses = {(name, answer.result().status) for name, answer in asked}
            assert {status for _, status in statuses} <= {200, 400, 413, 503}
            assert 200 in {status for name, status in statuses if name in pictures}
            assert most <= min(resting + declared_memory(limit) + (64 << 20), 0.8 * limit)
            assert group.killed == 0
            assert server.process.poll() is None
            for _ in range(100):
                if group.resident <= resting + (50 << 20):
                    break
                time.sleep(0.2)
            assert group.resident <= resting + (50 << 20)
            assert Counter(server.post("/detect", shade(90)).status for _ in range(5)) == {200: 5}
