"""A server that follows latest.json: clients notice nothing but the new version."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.store.published import to_json
from tests.integration.conftest import GRID
from tests.support.processes import until
from tests.support.s3 import serving_s3
from tests.support.servers import Server, running
from tests.support.shades import shade
from tests.unit.conftest import model

Seen = Counter[tuple[int, str, str, str]]


def version_of(number: int, classes: tuple[str, ...] = ("a", "b")) -> dict[str, bytes]:
    """The files of a version, as `publish` lays them out, and a latest.json that names it."""
    onnx = model(GRID, bright=(4, 0), names=str(dict(enumerate(classes))))
    manifest = {"name": "planes", "version": number, "classes": list(classes)}
    content = to_json(manifest | {"onnx_sha256": hashlib.sha256(onnx).hexdigest()})
    latest = to_json({"version": number, "sha256": hashlib.sha256(content).hexdigest()})
    return {f"{number}/model.onnx": onnx, f"{number}/manifest.json": content, "latest.json": latest}


def publish(store: Path, number: int, *, broken: bool = False, classes: tuple[str, ...] = ("a", "b")) -> None:
    """Write a version into a folder; latest.json comes last, and at once."""
    for name, content in version_of(number, classes).items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / "part").write_bytes(content[:-1] if broken and name.endswith(".onnx") else content)
        (store / "part").rename(store / name)


def versions(server: Server) -> str:
    return str(server.get("/model").json()["model"]["version"])


@contextmanager
def clients(server: Server, count: int = 3) -> Iterator[Seen]:
    """Clients who ask all the time; status, version in the answer and in its header, and labels of their answers."""
    seen, end = Seen(), threading.Event()

    def client() -> None:
        while not end.is_set():
            answer = server.post("/detect", shade(200))
            said = answer.json()
            labels = "".join(each["label"] for each in said["detections"])
            seen[answer.status, said["model"]["version"], answer.headers["x-model-version"], labels] += 1

    threads = [threading.Thread(target=client) for _ in range(count)]
    for each in threads:
        each.start()
    try:
        until(lambda: seen.total() > 20)
        yield seen
    finally:
        end.set()
        for each in threads:
            each.join()


def test_no_request_lost_when_versions_come_and_go(tmp_path: Path) -> None:
    store = tmp_path / "models/planes"
    publish(store, 1)
    settings = {"MODEL_URI": str(store / "latest.json"), "MODEL_RELOAD_SECONDS": "0.2"}
    with running(tmp_path, **settings) as server:
        with clients(server) as seen:
            resting = server.resident_mb()
            publish(store, 2, classes=("c", "d"))
            until(lambda: versions(server) == "2")
            publish(store, 3, broken=True)
            until(lambda: b'flywheel_model_reloads_total{result="failed"}' in server.get("/metrics").body)
            ready = server.get("/readyz")
            assert ready.status == 200 and "3/model.onnx: its sha256 is" in ready.json()["problem"]
            assert versions(server) == "2"
            for number in (*range(4, 8), 1):  # repaired; at last rolled back
                publish(store, number)
                until(lambda number=number: versions(server) == str(number))  # type: ignore[misc]
            until(lambda: server.get("/readyz").json()["problem"] is None)
        assert {(status, named == header) for status, named, header, _ in seen} == {(200, True)}
        until(lambda: b"\nflywheel_decode_memory_bytes 0.0" in server.get("/metrics").body)
        assert {labels for _, version, _, labels in seen if version == "2"} <= {"cd", "dc"}
        assert server.resident_mb() < resting + 25


def test_no_request_lost_when_the_bucket_is_away_and_back_with_a_new_version(tmp_path: Path) -> None:
    with serving_s3("minio", tmp_path / "s3") as s3:
        settings = s3.bucket()
        bucket = settings["STORE_URI"].removeprefix("s3://")

        def put(number: int, classes: tuple[str, ...]) -> None:
            for name, content in version_of(number, classes).items():
                s3.put(bucket, f"models/planes/{name}", content)

        put(1, ("a", "b"))
        settings |= {"MODEL_URI": f"s3://{bucket}/models/planes/latest.json", "MODEL_RELOAD_SECONDS": "0.2"}
        with running(tmp_path, **settings) as server, clients(server) as seen:
            put(2, ("c", "d"))
            until(lambda: versions(server) == "2")
            s3.stop(kill=True)
            until(lambda: "does not answer" in str(server.get("/readyz").json()["problem"]))
            assert server.get("/readyz").status == 200 and versions(server) == "2"
            s3.start()
            put(3, ("e", "f"))
            until(lambda: versions(server) == "3")
            until(lambda: server.get("/readyz").json()["problem"] is None)
            before = seen.total()
            until(lambda: seen.total() > before + 20)
        assert {(status, named == header) for status, named, header, _ in seen} == {(200, True)}
        assert {(version, "".join(sorted(labels))) for _, version, _, labels in seen} == {
            ("1", "ab"),
            ("2", "cd"),
            ("3", "ef"),
        }
