"""`predict` over a bucket: keys that no file system takes, workers that share no folder, and a store that goes away."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.__main__ import main
from runner.errors import StoreError
from runner.predict.predict import predict
from runner.workspace import write_text
from tests.support.pictures import encoded, gradient
from tests.support.s3 import S3, Use

KEYS = ["cam/a b ü+&.jpg", "cam/deep/er/=1.jpg", "cam/bad.jpg"]


def rows_of(file: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["picture"]: row for row in rows}


@pytest.mark.parametrize("kind", ["threads", "dask"])
def test_every_picture_of_a_prefix_is_scored_wherever_the_workers_run(
    minio: S3, use: Use, bright_model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = minio.bucket()
    use(environment)
    name = environment["STORE_URI"].removeprefix("s3://")
    for key in [*KEYS, "camera2/other.jpg", "cam/notes.txt"]:
        minio.put(name, key, b"no picture" if "bad" in key else encoded(gradient()))
    minio.put(name, "models/bright.onnx", bright_model.read_bytes())
    monkeypatch.setenv("MODEL_URI", f"s3://{name}/models/bright.onnx")
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        if kind == "dask":
            distributed = pytest.importorskip("distributed")
            elsewhere = tmp_path / "elsewhere"
            cluster = distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(elsewhere)
            )
            stack.enter_context(cluster)
            monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        monkeypatch.setenv("RUNNER_PARALLEL", kind)
        assert main(["predict", f"s3://{name}/cam", "--to", "out.jsonl"]) == 0
    rows = rows_of(tmp_path / "out.jsonl")
    assert rows.keys() == {f"s3://{name}/{key}" for key in KEYS}
    assert {key for key, row in rows.items() if row["error"]} == {f"s3://{name}/cam/bad.jpg"}
    assert all(row["detections"] for row in rows.values() if not row["error"])


def test_what_is_scored_stays_when_the_store_goes_away(
    own_minio: S3, use: Use, bright_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = own_minio.bucket()
    use(environment)
    name = environment["STORE_URI"].removeprefix("s3://")
    for number in range(6):
        own_minio.put(name, f"cam/{number}.png", encoded(gradient(40 + number), "PNG"))
    monkeypatch.setattr("runner.store.bucket.time.sleep", lambda seconds: None)

    def write_and_stop(path: Path, text: str) -> None:
        write_text(path, text)
        own_minio.stop()

    source, target = f"s3://{name}/cam/", tmp_path / "out.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr("runner.predict.predict.write_text", write_and_stop)
        with pytest.raises(StoreError, match="cannot be read"):
            predict(tmp_path, source, target, str(bright_model), part=2)
    assert not target.exists()
    own_minio.start()
    assert predict(tmp_path, source, target, str(bright_model), part=2).before == 2
    assert len(rows_of(target)) == 6
