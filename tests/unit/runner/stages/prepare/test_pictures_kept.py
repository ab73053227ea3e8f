import itertools
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from runner.stages.parallel import parallel
from serving.vision.picture import Picture, decode
from tests.support.pictures import Shelf, encoded, gradient, settings


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes in bytes of what is decoded."""
    sizes: list[int] = []

    def count(data: bytes, **options: Any) -> Picture:
        sizes.append(len(data))
        return decode(data, **options)

    monkeypatch.setattr("runner.stages.prepare.pictures.decode", count)
    return sizes


def test_only_the_new_is_decoded_when_pictures_are_added_renamed_or_equal(shelf: Shelf, decoded: list[int]) -> None:
    shelf.put("a.jpg", encoded(gradient()))
    for name in ("b.png", "equal.png"):
        shelf.put(name, encoded(gradient().convert("RGBA"), "PNG"))
    first = shelf.prepare()
    assert (len(decoded), first["b.png"]) == (2, first["equal.png"])
    assert shelf.prepare() == first
    assert len(decoded) == 2
    (shelf.source / "a.jpg").rename(shelf.source / "renamed.jpg")
    shelf.put("c.jpg", encoded(gradient(42)))
    assert sorted(shelf.prepare()) == ["b.png", "c.jpg", "equal.png", "renamed.jpg"]
    assert len(decoded) == 3


def test_useless_pictures_are_looked_at_again_when_they_were_refused(shelf: Shelf, decoded: list[int]) -> None:
    reason = shelf.refused(b"nothing")
    assert shelf.refused(b"nothing") == reason
    assert len(decoded) == 2


@pytest.mark.parametrize(
    ("changes", "count"),
    [({"max_width": 32}, 2), ({"jpeg_quality": 80}, 2), ({"max_pixels": 1_500_000}, 2), ({"min_pictures": 3}, 1)],
)
def test_all_is_decoded_anew_when_a_deciding_setting_changes(
    shelf: Shelf, decoded: list[int], changes: dict[str, int], count: int
) -> None:
    shelf.one(encoded(gradient()))
    shelf.prepare(settings(**changes))
    assert len(decoded) == count


def test_what_was_done_is_kept_when_the_run_ends_midway(
    shelf: Shelf, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in range(40, 50):
        shelf.put(f"{width}.png", encoded(gradient(width).convert("RGBA"), "PNG"))

    def stop(*arguments: Any) -> Iterator[Any]:
        yield from itertools.islice(parallel(*arguments), 6)
        raise InterruptedError("killed")

    with monkeypatch.context() as patch, pytest.raises(InterruptedError, match="killed"):
        patch.setattr("runner.stages.prepare.pictures.parallel", stop)
        shelf.prepare()
    before = len(decoded)
    journal = next(shelf.kept.rglob("known.jsonl"))
    journal.write_text(journal.read_text()[:-5])  # the last line is torn
    assert len(shelf.prepare()) == 10
    assert len(decoded) - before == 10 - 5
    assert len(shelf.prepare()) == 10
    assert len(decoded) - before == 5


@pytest.mark.parametrize("line", ["", "x", "[]", "{}", "3", '["00"]', json.dumps(["00", 1, 2, 3, "a", "b", 1, 2])])
def test_lines_are_passed_over_when_they_are_nonsense(shelf: Shelf, decoded: list[int], line: str) -> None:
    shelf.one(encoded(gradient()))
    with next(shelf.kept.rglob("known.jsonl")).open("a") as journal:
        journal.write(f"\n{line}")
    shelf.prepare()
    assert len(decoded) == 1


def test_old_settings_are_forgotten_when_nobody_came_back(shelf: Shelf) -> None:
    shelf.one(encoded(gradient()))
    (old,) = shelf.kept.iterdir()
    os.utime(old, (time.time() - 15 * 86400,) * 2)
    shelf.prepare(settings(max_width=32))
    assert not old.exists()
