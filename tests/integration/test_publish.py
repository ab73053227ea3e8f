"""publish on real S3 servers: killed after any request, and several at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.release.contents import releasing
from runner.release.gate import gate
from runner.release.publish import publish
from runner.store import open_store
from runner.store.init import init_store
from runner.store.published import numbers
from runner.store.verify import verify_store
from tests.support.publishers import drive
from tests.support.s3 import S3
from tests.support.trained import Trained, blind

DONE = {"versions": [1], "used": [1], "latest": 1, "problems": []}


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[S3], Trained]:
    """Gives a project that the gate has judged, and a bucket of this server as its store."""

    def prepare(server: S3) -> Trained:
        trained = Trained(tmp_path / "project")
        monkeypatch.chdir(trained.folder)
        for name, value in server.bucket().items():
            monkeypatch.setenv(name, value)
        init_store(trained.folder)
        gate(trained.folder)
        return trained

    return prepare


def well(trained: Trained) -> bool:
    text, is_well = verify_store(open_store(trained.folder))
    return is_well and "note" not in text


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), [("minio", "requests"), ("rclone", "operations")])
def test_one_version_comes_of_it_when_killed_at_any_point(
    request: pytest.FixtureRequest, prepared: Callable[[S3], Trained], name: str, what: str
) -> None:
    trained = prepared(request.getfixturevalue(name))
    rounds = drive("kill", what, trained.folder)
    assert len(rounds) > 15
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert rounds[-1]["status"] == 0
    for each in rounds:
        first, then, again = each["seen"]
        assert (first["problems"], then, again) == ([], DONE, DONE)
    assert well(trained)


def test_one_version_comes_of_it_when_several_publish_the_same(minio: S3, prepared: Callable[[S3], Trained]) -> None:
    trained = prepared(minio)
    for each in drive("race", "5", *[trained.folder] * 3):
        assert (each["statuses"], each["seen"]) == ([0, 0, 0], DONE)
    assert well(trained)


def test_each_gets_a_number_when_two_publish_at_once(
    minio: S3, prepared: Callable[[S3], Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = prepared(minio)
    other = Trained(tmp_path / "other", blind(), gate={"min_map50": 0.1, "min_boxes": 1})
    monkeypatch.chdir(other.folder)
    gate(other.folder)
    for each in drive("race", "5", trained.folder, other.folder):
        assert each["statuses"] == [0, 0]
        assert each["seen"] == {"versions": [1, 2], "used": [1, 2], "latest": 2, "problems": []}
    assert well(trained)


def tags(server: S3, bucket: str, number: int) -> dict[str, str]:
    found = server.client().get_object_tags(bucket, f"models/flyingthings/{number}/model.onnx")
    return dict(found or {})


def test_tags_follow_the_newest_that_passed_when_published(minio: S3, prepared: Callable[[S3], Trained]) -> None:
    trained = prepared(minio)
    store = open_store(trained.folder)
    seen = []
    for onnx, least in ((None, 0.1), (blind(), 0.9), (blind(another="one"), 0.1)):
        trained.set(gate={"min_map50": least})
        trained.repro(onnx)
        verdict = gate(trained.folder)
        with releasing(trained.folder) as release:
            publish(store, release)
        bucket = store.uri.removeprefix("s3://")
        seen.append([tags(minio, bucket, number).get("stage") for number in numbers(store, "flyingthings")])
        found = tags(minio, bucket, len(seen))
        assert (found["training-run"], found["sha256"]) == (str(len(seen)), verdict.onnx_sha256)
    assert seen == [["latest"], ["latest", None], [None, None, "latest"]]
