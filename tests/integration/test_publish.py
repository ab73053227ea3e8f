import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.release.contents import releasing
from runner.release.publish import publish
from runner.store import Store, open_store
from runner.store.init import init_store
from runner.store.published import latest, numbers, read_version, version_key
from runner.store.verify import verify_store
from tests.support.publishers import drive
from tests.support.s3 import S3
from tests.support.trained import Trained, blind

DONE = {"versions": [1], "used": [1], "latest": 1, "problems": []}
Prepare = Callable[[str], Trained]


@pytest.fixture
def prepared(tmp_path: Path, store_of: Callable[[str], Store]) -> Prepare:
    """Gives a project that the gate has judged, and a folder or a bucket of a server as its store."""

    def prepare(kind: str) -> Trained:
        store_of(kind)
        init_store(tmp_path)
        trained = Trained(tmp_path / "ein Projekt für ü")
        trained.judge()
        return trained

    return prepare


@pytest.fixture
def other(tmp_path: Path) -> Trained:
    other = Trained(tmp_path / "other", blind(), gate={"min_map50": 0.1, "min_boxes": 1})
    other.judge()
    return other


def well(trained: Trained) -> bool:
    text, is_well = verify_store(open_store(trained.folder))
    return is_well and "note" not in text


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("folder", "operations"),
        pytest.param("minio", "requests", marks=pytest.mark.slow),
        pytest.param("rclone", "operations", marks=pytest.mark.slow),
    ],
)
def test_one_version_comes_of_it_when_killed_at_any_point(prepared: Prepare, kind: str, what: str) -> None:
    trained = prepared(kind)
    rounds = drive("kill", what, trained.folder)
    assert len(rounds) > 15
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert rounds[-1]["status"] == 0
    for each in rounds:
        first, then, again = each["seen"]
        assert (first["problems"], then, again) == ([], DONE, DONE)
    assert well(trained)


@pytest.mark.parametrize("kind", ["folder", "minio", "seaweedfs"])
def test_each_model_gets_a_number_when_several_publish_at_once(prepared: Prepare, kind: str, other: Trained) -> None:
    trained = prepared(kind)
    for each in drive("race", "5", trained.folder, trained.folder, other.folder):
        assert each["statuses"] == [0, 0, 0]
        assert each["seen"] == {"versions": [1, 2], "used": [1, 2], "latest": 2, "problems": []}
    assert well(trained)


def tags(server: S3, store: Store, number: int, model: str = "flyingthings") -> dict[str, str]:
    key = version_key(model, number, "model.onnx")
    return dict(server.client().get_object_tags(store.uri.removeprefix("s3://"), key) or {})


def tagged_latest(server: S3, store: Store, model: str) -> list[int]:
    """The versions whose tags say that they are the latest."""
    return [number for number in numbers(store, model) if tags(server, store, number, model).get("stage") == "latest"]


def test_the_newest_of_commits_is_the_latest_when_a_trial_publishes_at_once(
    minio: S3, prepared: Prepare, other: Trained, tmp_path: Path
) -> None:
    trained, trial = prepared("minio"), Trained(tmp_path / "trial")
    trial.try_out()
    trial.judge()
    store = open_store(trained.folder)
    for projects in ([trained, trial], [trained, trial, other]):
        for turn, each in enumerate(drive("race", "5", *(project.folder for project in projects))):
            model = f"race-{turn}"
            assert (set(each["statuses"]), each["seen"]["problems"]) == ({0}, [])
            found = [read_version(store, model, number) for number in numbers(store, model)]
            newest = [version.number for version in found if version.may_be_latest][-1]
            assert each["seen"]["versions"] == list(range(1, len(projects) + 1))
            assert (each["seen"]["latest"], tagged_latest(minio, store, model)) == (newest, [newest])
    assert well(trained)


class InStep:
    """A store of one of two publishers; what they do to latest.json, they do by turns, this one first or second."""

    def __init__(self, store: Store, turns: threading.Barrier, place: int) -> None:
        self.store, self.uri, self.turns, self.place = store, store.uri, turns, place

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation: Callable[..., Any] = getattr(self.store, name)

        def in_step(key: str, *arguments: Any) -> Any:
            if name not in ("read", "replace") or not key.endswith("latest.json"):
                return operation(key, *arguments)
            for _ in range(self.place + 1):
                self.turn()
            result = operation(key, *arguments)
            for _ in range(1 - self.place):
                self.turn()
            return result

        return in_step

    def turn(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):  # the other one is done
            self.turns.wait(30)


def test_one_version_is_tagged_when_two_publishers_move_latest_at_once(
    minio: S3, prepared: Prepare, other: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = prepared("minio")
    store, turns = open_store(trained.folder), threading.Barrier(2)
    releases = []
    with contextlib.ExitStack() as stack:
        for project in (trained, other):
            monkeypatch.chdir(project.folder)
            releases.append(stack.enter_context(releasing(project.folder)))
            publish(store, releases[-1])
        minio.client().remove_object(store.uri.removeprefix("s3://"), "models/flyingthings/latest.json")

        def publish_in_step(place: int) -> int:
            try:
                return publish(InStep(store, turns, place), releases[place]).version.number
            finally:
                turns.abort()

        with ThreadPoolExecutor() as pool:
            assert list(pool.map(publish_in_step, (0, 1))) == [1, 2]
    assert (latest(store, "flyingthings"), tagged_latest(minio, store, "flyingthings")) == (2, [2])


def test_tags_follow_the_newest_that_passed_when_published(minio: S3, prepared: Prepare) -> None:
    trained = prepared("minio")
    store = open_store(trained.folder)
    seen = []
    for onnx, least in ((None, 0.1), (blind(), 0.9), (blind(another="one"), 0.1)):
        trained.set(gate={"min_map50": least, "max_class_drop": 1.0})
        trained.repro(onnx)
        verdict = trained.judge()
        trained.publish()
        seen.append([tags(minio, store, number).get("stage") for number in numbers(store, "flyingthings")])
        found = tags(minio, store, len(seen))
        assert (found["training-run"], found["sha256"]) == (str(len(seen)), verdict.onnx_sha256)
    assert seen == [["latest"], ["latest", None], [None, None, "latest"]]
