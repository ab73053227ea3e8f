import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.store.init import init_store
from serving.storage.endpoint import Endpoint, endpoint_of_environment
from serving.storage.objects import StorageError, read, size_of, write
from tests.support.processes import until
from tests.support.s3 import NAMES, S3, Use, serving_s3
from tests.support.servers import Server, running
from tests.support.shades import film, shade
from tests.support.trees import write_tree


@pytest.fixture
def endpoint(s3: S3) -> tuple[str, Endpoint]:
    environment = s3.bucket()
    return environment["STORE_URI"], endpoint_of_environment(environment)


def test_read_back_or_refused_when_in_a_bucket(endpoint: tuple[str, Endpoint]) -> None:
    bucket, where = endpoint
    write(f"{bucket}/prefix/", "captures/a b#1?%20.json", b"{}", "application/json", where)
    name = f"{bucket}/prefix/captures/a b#1?%20.json"
    assert (read(name, where), size_of(name, where)) == (b"{}", 2)
    for uri in (f"{bucket}/a", "s3://not-there/a"):
        for ask in (read, size_of):
            with pytest.raises(StorageError, match=f"^{uri}: cannot be read: there is no such"):
                ask(uri, where)
    with pytest.raises(StorageError, match=r"a cannot be written: .*root\w+ \(SignatureDoesNotMatch"):
        write(bucket, "a", b"", "text/plain", where._replace(secret_key="geheim"))


@pytest.fixture(params=NAMES)
def store(
    request: pytest.FixtureRequest, tmp_path: Path, bright_model: Path, use: Use
) -> Iterator[tuple[S3, dict[str, str]]]:
    """A store with a published model, and the server's settings: where there are users, as server-dev."""
    with serving_s3(request.param, tmp_path / "s3") as server:
        user = {"AWS_ACCESS_KEY_ID": "serverdev", "AWS_SECRET_ACCESS_KEY": "nur-ein-versuch"}
        write_tree(tmp_path / "users/server-dev", user)
        environment = server.environment("planes")
        named = use(environment | {"STORE_USERS": str(tmp_path / "users")})
        init_store(tmp_path)
        onnx = bright_model.read_bytes()
        manifest = {"name": "planes", "version": 3, "classes": ["airplane", "helicopter"]}
        content = json.dumps(manifest | {"onnx_sha256": hashlib.sha256(onnx).hexdigest()}).encode()
        for name, data in (("model.onnx", onnx), ("manifest.json", content)):
            named.replace(f"models/planes/3/{name}", data)
        settings = {
            "MODEL_URI": "s3://planes/models/planes/3/manifest.json",
            "MODEL_SHA256": hashlib.sha256(content).hexdigest(),
            "CAPTURE_URI": "s3://planes",
            "CAPTURE_STRATEGIES": "random:1",
            "CAPTURE_SIMILAR_BITS": "-1",
            "ENVIRONMENT": "dev",
        }
        yield server, environment | settings | ({} if server.name == "rclone" else user)


def captured(server: S3) -> list[str]:
    names = [item.object_name or "" for item in server.client().list_objects("planes", "captures/", recursive=True)]
    return [name for name in names if name.endswith(".json")]


def post(server: Server, count: int) -> set[int]:
    return {server.post("/detect", shade(100 + number)).status for number in range(count)}


def test_jobs_found_by_another_server_when_they_are_in_a_bucket(
    store: tuple[S3, dict[str, str]], tmp_path: Path
) -> None:
    _, settings = store
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with (
        running(folders[0], **settings, REPLICAS="2") as first,
        running(folders[1], **settings, REPLICAS="2") as second,
    ):
        job = first.post("/jobs/video", film([0] * 25)).headers["location"]
        until(lambda: second.get(job).json()["state"] == "done")
        assert len(second.get(f"{job}/result").json()["frames"]) == 3
        assert second.ask("DELETE", job, None, {}).status == 204
        assert first.get(f"{job}/result").status == 409
        assert second.get(f"/jobs/{'0' * 32}").status == 404


def test_requests_notice_nothing_when_the_store_is_away(store: tuple[S3, dict[str, str]], tmp_path: Path) -> None:
    s3, settings = store
    s3.stop(kill=True)
    with running(tmp_path, until="/healthz", **settings) as server:
        until(lambda: "does not answer" in server.get("/readyz").body.decode())
        assert server.get("/readyz").status == 503 and server.post("/detect", shade(1)).status == 503
        s3.start()
        until(lambda: server.get("/readyz").status == 200)
        assert server.get("/model").json()["model"]["version"] == "3"
        assert post(server, 3) == {200}
        until(lambda: len(captured(s3)) == 3)
        s3.stop(kill=True)
        assert post(server, 5) == {200} and server.get("/readyz").status == 200
        until(lambda: any("capture waits" in line["message"] for line in server.lines()))
        s3.start()
        until(lambda: len(captured(s3)) == 8)
        assert all(name.startswith("captures/dev/planes/3/") for name in captured(s3))
        assert not any("nur-ein-versuch" in str(line) for line in server.lines())
