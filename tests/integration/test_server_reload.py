"""A server that follows latest.json: clients notice nothing but the new version."""

import hashlib
import threading
from collections import Counter
from pathlib import Path

from runner.store.published import to_json
from tests.integration.conftest import GRID
from tests.support.processes import until
from tests.support.servers import Server, running
from tests.support.shades import shade
from tests.unit.conftest import model


def publish(store: Path, version: int, *, broken: bool = False, classes: tuple[str, ...] = ("a", "b")) -> None:
    """Write a version as `publish` lays it out, and point latest.json at it."""
    folder = store / str(version)
    folder.mkdir(parents=True)
    onnx = model(GRID, bright=(4, 0), names=str(dict(enumerate(classes))))
    manifest = {"name": "planes", "version": version, "classes": list(classes)}
    content = to_json(manifest | {"onnx_sha256": hashlib.sha256(onnx).hexdigest()})
    (folder / "model.onnx").write_bytes(onnx[:-1] if broken else onnx)
    (folder / "manifest.json").write_bytes(content)
    point(store, version)


def point(store: Path, version: int) -> None:
    sha256 = hashlib.sha256((store / str(version) / "manifest.json").read_bytes()).hexdigest()
    (store / "part").write_bytes(to_json({"version": version, "sha256": sha256}))
    (store / "part").rename(store / "latest.json")


def versions(server: Server) -> str:
    return str(server.get("/model").json()["model"]["version"])


def test_no_request_lost_when_versions_come_and_go(tmp_path: Path) -> None:
    store, seen, end = tmp_path / "models/planes", Counter[tuple[int, str, str, str]](), threading.Event()
    publish(store, 1)
    settings = {"MODEL_URI": str(store / "latest.json"), "MODEL_RELOAD_SECONDS": "0.2"}
    with running(tmp_path, **settings) as server:

        def client() -> None:
            while not end.is_set():
                answer = server.post("/detect", shade(200))
                said = answer.json()
                version = said["model"]["version"]
                labels = "".join(each["label"] for each in said["detections"])
                seen[answer.status, version, answer.headers["x-model-version"], labels] += 1

        clients = [threading.Thread(target=client) for _ in range(3)]
        for each in clients:
            each.start()
        until(lambda: seen.total() > 20)
        resting = server.resident_mb()
        publish(store, 2, classes=("c", "d"))
        until(lambda: versions(server) == "2")
        publish(store, 3, broken=True)
        until(lambda: b'flywheel_model_reloads_total{result="failed"}' in server.get("/metrics").body)
        ready = server.get("/readyz")
        assert ready.status == 200 and "3/model.onnx: its sha256 is" in ready.json()["problem"]
        assert versions(server) == "2"
        for number in (*range(4, 8), 1):  # repaired; at last rolled back
            point(store, 1) if number == 1 else publish(store, number)
            until(lambda number=number: versions(server) == str(number))  # type: ignore[misc]
        until(lambda: server.get("/readyz").json()["problem"] is None)
        end.set()
        for each in clients:
            each.join()
        assert {(status, named == header) for status, named, header, _ in seen} == {(200, True)}
        until(lambda: b"\nflywheel_decode_memory_bytes 0.0" in server.get("/metrics").body)
        assert {labels for _, version, _, labels in seen if version == "2"} <= {"cd", "dc"}
        assert server.resident_mb() < resting + 25
