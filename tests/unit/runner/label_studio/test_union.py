"""The dataset and what was annotated, joined by digest: names and bytes stay where nothing is different."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from runner.errors import LabelStudioError
from runner.label_studio.current import Dataset, Picture, boxes_in
from runner.label_studio.regions import Box
from runner.label_studio.union import Finding, Union, free_name, label_text, same_boxes, unite
from tests.support.pictures import encoded, gradient, turned

CLASSES = ["airplane", "helicopter"]
AT = (0.5, 0.5, 0.25, 0.25)


class Shelf:
    """Pictures on disk; their digests are the letters of their names, so that tests can be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, data: bytes = b"") -> Path:
        (self.folder / name).write_bytes(data or encoded(gradient()))
        return self.folder / name

    def picture(self, name: str, text: bytes | None = b"0 0.5 0.5 0.25 0.25\n", data: bytes = b"") -> Picture:
        boxes = boxes_in(text or b"", CLASSES)
        return Picture(name, self.file(name, data), digest(name), text, boxes, None)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def join(before: list[Picture], findings: dict[str, Finding], gone: tuple[str, ...] = ()) -> Union:
    drawn = {digest(name): finding for name, finding in findings.items()}
    return unite(Dataset(CLASSES, before, {}), drawn, {digest(name) for name in gone}, CLASSES, "stored")


def texts(union: Union) -> dict[str, bytes | None]:
    return {picture.name: picture.text for picture in union.dataset.pictures}


def test_nothing_is_there_when_there_was_nothing() -> None:
    assert join([], {}).dataset.pictures == []


def test_the_dataset_stays_when_nothing_was_annotated(shelf: Shelf) -> None:
    before = [shelf.picture("a.jpg"), shelf.picture("b.jpg", None), shelf.picture("c.jpg", b"")]
    union = join(before, {})
    assert union.dataset.pictures == before and union.news == 0


@pytest.mark.parametrize(
    "text",
    [b"0 0.5 0.5 0.25 0.25\r\n", b"0 .500000001 0.5 0.25 0.25 0.9\n", b"0 0.375 0.375 0.625 0.375 0.625 0.625\n"],
)
def test_a_label_file_stays_byte_for_byte_when_its_boxes_are_drawn_again(shelf: Shelf, text: bytes) -> None:
    union = join([shelf.picture("a.jpg", text)], {"a.jpg": Finding(None, "", [Box("airplane", AT)], "dataset")})
    assert (union.news, texts(union)) == (0, {"a.jpg": text})


@pytest.mark.parametrize("boxes", [[], [Box("helicopter", AT)], [Box("airplane", (0.5, 0.5, 0.25, 0.3))]])
def test_a_picture_is_relabelled_when_its_boxes_are_others(shelf: Shelf, boxes: list[Box]) -> None:
    union = join([shelf.picture("a.jpg")], {"a.jpg": Finding(None, "", boxes, "feedback")})
    assert (union.relabelled, union.added, union.removed) == (["a.jpg"], [], [])
    assert texts(union) == {"a.jpg": label_text(boxes, CLASSES)}
    assert union.origins == {"feedback": 1}


def test_a_picture_is_added_with_a_free_name_when_it_is_new(shelf: Shelf) -> None:
    new = Finding(shelf.file("17"), "../A.JPG", [Box("helicopter", AT)], "capture")
    union = join([shelf.picture("a.jpg")], {"new": new})
    (name,) = union.added
    assert name == f"A-{digest('new')[:8]}.JPG"
    assert texts(union)[name] == b"1 0.500000 0.500000 0.250000 0.250000\n"


def test_boxes_turn_back_when_the_new_picture_is_stored_sideways(shelf: Shelf) -> None:
    new = Finding(shelf.file("17", turned(6)), "a.jpg", [Box("airplane", (0.25, 0.5, 0.1, 0.2))], "import")
    assert texts(join([], {"new": new})) == {"a.jpg": b"0 0.500000 0.750000 0.200000 0.100000\n"}


def test_names_stay_when_more_is_added_later(shelf: Shelf) -> None:
    drawn = {name: Finding(shelf.file(name), "clip.jpg", [], "") for name in ("one", "two", "three")}
    first = join([], {"two": drawn["two"]})
    later = join(first.dataset.pictures, drawn)
    named = {picture.sha256: picture.name for picture in later.dataset.pictures}
    assert named[digest("two")] == "clip.jpg"
    assert sorted(named.values()) == sorted(
        ["clip.jpg", *(f"clip-{digest(name)[:8]}.jpg" for name in ("one", "three"))]
    )


def test_a_picture_goes_when_it_is_to_go(shelf: Shelf) -> None:
    union = join([shelf.picture("a.jpg"), shelf.picture("b.jpg")], {}, gone=("a.jpg",))
    assert (union.removed, list(texts(union))) == (["a.jpg"], ["b.jpg"])


def test_ids_follow_the_names_when_the_class_list_changes(shelf: Shelf) -> None:
    before = Dataset(CLASSES, [shelf.picture("a.jpg"), shelf.picture("b.jpg", b"1 0.5 0.5 0.25 0.25\n")], {})
    swapped = unite(before, {}, set(), ["ship", "helicopter", "airplane"], "stored")
    ids = {name: text.split()[0] for name, text in texts(swapped).items() if text}
    assert ids == {"a.jpg": b"2", "b.jpg": b"1"}
    longer = unite(before, {}, set(), [*CLASSES, "ship"], "stored")
    assert longer.dataset.pictures == before.pictures
    with pytest.raises(LabelStudioError, match=r"dataset.classes lists airplane, but the dataset has 1 boxes of heli"):
        unite(before, {}, set(), ["airplane"], "stored")


def test_boxes_are_the_same_when_order_and_doubles_differ() -> None:
    one, other = Box("a", AT), Box("b", AT)
    assert same_boxes([one, other], [other, one, one])
    assert same_boxes([], [])
    assert not same_boxes([one], [one, other])
    assert not same_boxes([one], [])
    assert not same_boxes([one], [Box("a", (0.5, 0.5, 0.25, 0.2501))])


def test_a_name_is_free_when_its_stem_is_taken_in_another_case() -> None:
    taken: set[str] = set()
    assert [free_name("a.jpg", "0" * 64, taken), free_name("A.png", "1" * 64, taken)] == ["a.jpg", "A-11111111.png"]
    assert free_name("a.jpg", "1" * 64, taken) == "a-111111111.jpg"
