"""Label Studio dies in the middle: a pull writes nothing, a push and an import double nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import LabelStudioError
from runner.label_studio import intake, push
from runner.label_studio.intake import import_pictures
from runner.label_studio.pull import pull
from runner.label_studio.push import push_captures
from runner.label_studio.setup import set_up
from tests.integration.label_studio.test_push import keep  # noqa: F401 - a fixture
from tests.support.annotating import AIRPLANE, Bench, labelled, pictures
from tests.support.cutting import Cut, cutting
from tests.support.label_studio import LabelStudio

COUNT = 7


@pytest.fixture
def dying(tmp_path: Path, own_label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose Label Studio may be killed; batches are small."""
    for name, value in (own_label_studio.environment | {"STORE_URI": str(tmp_path / "store")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(push, "BATCH", 3)
    monkeypatch.setattr(intake, "BATCH", 3)
    bench = Bench(tmp_path / "project", own_label_studio)
    set_up(bench.project)
    return bench


def cut_once(pattern: str, nth: int, cut: Cut) -> Callable[[str, str], Cut | None]:
    """Cut the nth call whose method and path match."""
    seen = 0

    def where(method: str, path: str) -> Cut | None:
        nonlocal seen
        if not re.search(pattern, f"{method} {path}"):
            return None
        seen += 1
        return cut if seen == nth else None

    return where


def die(
    bench: Bench, where: Callable[[str, str], Cut | None], do: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Do something while Label Studio dies, and start it again."""
    server = bench.label_studio
    with cutting(server.url, where, lambda: server.stop(kill=True)) as address:
        monkeypatch.setenv("LABEL_STUDIO_URL", address)
        with pytest.raises(LabelStudioError, match=r"what is done is not done twice|ends too early|cannot be fetched"):
            do()
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    if server.process is None:
        server.start()


@pytest.mark.parametrize(
    ("pattern", "nth", "cut"),
    [
        ("GET /api/projects/[0-9]+/export", 1, "half"),
        ("GET /api/projects/[0-9]+/export", 1, "before"),
        ("GET /data/upload", 3, "before"),
        ("GET /api/tasks", 1, "before"),
    ],
)
def test_nothing_is_written_when_it_dies_in_a_pull(
    dying: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, nth: int, cut: Cut
) -> None:
    import_pictures(str(pictures(tmp_path / "new", COUNT)), project=dying.project)
    for task in dying.tasks():
        dying.draw(task["id"], AIRPLANE)
    before = dying.params
    die(dying, cut_once(pattern, nth, cut), lambda: pull(dying.project), monkeypatch)
    assert dying.params == before and dying.store.list("") == []
    assert not list((dying.project / ".work").glob("labels-*"))
    pull(dying.project)
    assert len(dying.boxes()) == COUNT


@pytest.mark.parametrize("cut", ["before", "during", "answer", "504"])
def test_nothing_is_doubled_when_it_dies_in_a_push(
    dying: Bench,
    keep: Callable[..., str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    cut: Cut,
) -> None:
    kept = {keep(dying.store.uri, 0.5) for _ in range(COUNT)}
    importing = cut_once("POST /api/projects/[0-9]+/import$", 2, cut)
    die(dying, importing, lambda: push_captures(dying.project), monkeypatch)
    there = len(dying.tasks())
    assert there in ((3,) if cut == "before" else (6,) if cut in ("answer", "504") else (3, 6))
    push_captures(dying.project)
    tasks = dying.tasks()
    assert sorted(task["data"]["request_id"] for task in tasks) == sorted(kept)
    assert all(len(task["predictions"]) == 1 for task in tasks)


@pytest.mark.parametrize("cut", ["during", "answer"])
def test_nothing_is_doubled_when_it_dies_in_an_import(
    dying: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: Cut
) -> None:
    source = labelled(tmp_path / "first", {f"{number}.jpg": "0 0.5 0.5 0.25 0.25\n" for number in range(COUNT)})
    importing = cut_once("POST /api/projects/[0-9]+/import$", 2, cut)
    die(dying, importing, lambda: import_pictures(str(source), project=dying.project), monkeypatch)
    import_pictures(str(source), project=dying.project)
    tasks = dying.tasks()
    assert sorted(task["data"]["name"] for task in tasks) == [f"{number}.jpg" for number in range(COUNT)]
    assert all(len(task["annotations"]) == 1 for task in tasks)
