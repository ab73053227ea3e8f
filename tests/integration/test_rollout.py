"""A new pin, as a cluster rolls it out: the new pod is ready, the old one is told to stop, requests keep coming."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from tests.support.gitops import Manifest, render
from tests.support.servers import Server, running

SCALE = 0.2  # all times of the manifest, so that it takes seconds instead of half a minute
RELOAD_SECONDS = 5  # at most this often the router takes up what has changed


class Router:
    """What kubelet, endpoints and the router make of /readyz: late, and only every so often."""

    def __init__(self, probe: Manifest) -> None:
        self.endpoints: list[Server] = []
        self._probed: dict[int, tuple[Server, int]] = {}
        self._period, self._limit = probe["periodSeconds"] * SCALE, probe["failureThreshold"]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=it, daemon=True) for it in (self._probe, self._reload)]
        for thread in self._threads:
            thread.start()

    def add(self, server: Server) -> None:
        """Take a pod that is ready."""
        self._probed[server.port] = server, 0

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _probe(self) -> None:
        while not self._stop.wait(self._period):
            for port, (server, failures) in list(self._probed.items()):
                ready = False
                with contextlib.suppress(OSError):
                    ready = server.get("/readyz").status == 200
                self._probed[port] = server, 0 if ready else failures + 1

    def _reload(self) -> None:
        while not self._stop.wait(RELOAD_SECONDS * SCALE):
            self.endpoints = [server for server, failures in list(self._probed.values()) if failures < self._limit]


class Callers:
    """People who send pictures all the time; what went wrong is in `failures`."""

    def __init__(self, router: Router, picture: bytes) -> None:
        self.sent, self.failures = 0, list[str]()
        self._router, self._picture, self._stop = router, picture, threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End them, each after its answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        turns = cycle(range(1_000))
        while not self._stop.wait(0.02):
            if endpoints := self._router.endpoints:
                server = endpoints[next(turns) % len(endpoints)]
                self.sent += 1
                try:
                    if (status := server.post("/detect", self._picture).status) != 200:
                        self.failures.append(f"{server.port}: {status}")
                except OSError as error:
                    self.failures.append(f"{server.port}: {error!r}")


@pytest.mark.slow
@pytest.mark.parametrize("drains", [True, False])
def test_no_request_dropped_when_a_new_pin_rolls(
    drains: bool, tmp_path: Path, bright_model: Path, shade: Callable[..., bytes]
) -> None:
    pod = next(render("serving/overlays/dev").of_kind("Deployment"))["spec"]["template"]["spec"]
    values = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    drain = float(values["DRAIN_SECONDS"]) * SCALE if drains else 0
    settings = {"MODEL_URI": str(bright_model), "DRAIN_SECONDS": str(drain)}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    router = Router(pod["containers"][0]["readinessProbe"])
    with running(tmp_path / "old", **settings) as old:
        router.add(old)
        callers = Callers(router, shade(0))
        with running(tmp_path / "new", **settings) as new:
            router.add(new)
            time.sleep(RELOAD_SECONDS * SCALE + 0.5)
            assert len(router.endpoints) == 2
            old.process.send_signal(signal.SIGTERM)
            ended = old.process.wait(pod["terminationGracePeriodSeconds"] * SCALE)  # not killed
            assert ended == -signal.SIGTERM  # uvicorn passes it on once it has finished
            time.sleep(1)
            callers.stop()
            router.stop()
    assert callers.sent > 20
    assert bool(callers.failures) is not drains, callers.failures  # without draining this test sees the difference
