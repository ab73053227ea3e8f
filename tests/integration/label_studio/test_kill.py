import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import LabelStudioError
from runner.label_studio import labelling_tasks
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.pull import pull
from runner.label_studio.push import push_captures
from runner.label_studio.setup import set_up
from tests.support.annotating import AIRPLANE, Bench, labelled, picture, pictures
from tests.support.captures import keep_capture
from tests.support.cutting import Cut, cutting

COUNT = 7


@pytest.fixture
def dying(own_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose Label Studio may be killed; batches are small."""
    monkeypatch.setattr(labelling_tasks, "BATCH", 3)
    set_up(own_bench.project)
    return own_bench


def die(
    bench: Bench, call: str, nth: int, cut: Cut, do: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Do something while Label Studio dies at the nth call whose method and path match, and start it again."""
    server = bench.label_studio
    seen = 0

    def where(method: str, path: str) -> Cut | None:
        nonlocal seen
        if not re.search(call, f"{method} {path}"):
            return None
        seen += 1
        return cut if seen == nth else None

    with cutting(server.url, where, lambda: server.stop(kill=True)) as address:
        monkeypatch.setenv("LABEL_STUDIO_URL", address)
        with pytest.raises(LabelStudioError, match=r"run this command again|cannot be fetched"):
            do(bench.project)
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    if server.process is None:
        server.start()


@pytest.mark.parametrize(
    ("call", "nth", "cut"),
    [
        ("GET /api/projects/[0-9]+/export", 1, "half"),
        ("GET /api/projects/[0-9]+/export", 1, "before"),
        ("GET /data/upload", 3, "before"),
        ("GET /api/tasks", 1, "before"),
    ],
)
def test_nothing_is_written_when_it_dies_in_a_pull(
    dying: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int, cut: Cut
) -> None:
    import_pictures(str(pictures(tmp_path / "new", COUNT)), project=dying.project)
    for task in dying.tasks():
        dying.draw(task["id"], AIRPLANE)
    before = dying.params
    die(dying, call, nth, cut, pull, monkeypatch)
    assert dying.params == before and dying.store.list("") == []
    assert not list((dying.project / ".work").glob("labels-*"))
    pull(dying.project)
    assert len(dying.boxes()) == COUNT


@pytest.mark.parametrize("cut", ["before", "during", "answer", "504"])
def test_nothing_is_doubled_when_it_dies_in_a_push(dying: Bench, monkeypatch: pytest.MonkeyPatch, cut: Cut) -> None:
    captured = [picture(dying.project / "one.jpg", number).read_bytes() for number in range(COUNT)]
    kept = {keep_capture(dying.store.uri, 0.5, data=data, size=(64, 48)) for data in captured}
    die(dying, "POST /api/projects/[0-9]+/import$", 2, cut, push_captures, monkeypatch)
    assert len(dying.tasks()) in {"before": (3,), "during": (3, 6)}.get(cut, (6,))
    push_captures(dying.project)
    tasks = dying.tasks()
    assert sorted(task["data"]["request_id"] for task in tasks) == sorted(kept)
    assert all(len(task["predictions"]) == 1 for task in tasks)


@pytest.mark.parametrize("cut", ["during", "answer"])
def test_nothing_is_doubled_when_it_dies_in_an_import(dying: Bench, monkeypatch: pytest.MonkeyPatch, cut: Cut) -> None:
    source = str(
        labelled(dying.project / "first", {f"{number}.jpg": "0 0.5 0.5 0.25 0.25\n" for number in range(COUNT)})
    )
    call = "POST /api/projects/[0-9]+/import$"
    die(dying, call, 2, cut, lambda project: import_pictures(source, project=project), monkeypatch)
    import_pictures(source, project=dying.project)
    tasks = dying.tasks()
    assert sorted(task["data"]["name"] for task in tasks) == [f"{number}.jpg" for number in range(COUNT)]
    assert all(len(task["annotations"]) == 1 for task in tasks)
