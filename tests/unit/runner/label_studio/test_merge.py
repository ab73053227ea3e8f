"""The dataset and the annotations, joined by digest: names and bytes stay where nothing changed.

Boxes of pictures that EXIF turns are upright in Label Studio, and in the dataset's frame in the dataset.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from runner.dataset.labels import turn_boxes
from runner.errors import LabelStudioError
from runner.label_studio.annotations import Annotation
from runner.label_studio.labelled_dataset import (
    LabelledDataset,
    LabelledPicture,
    dataset_boxes,
    parse_boxes,
    upright_boxes,
)
from runner.label_studio.merge import MergedDataset, check_merged, free_name, label_text, merge, same_boxes
from runner.label_studio.regions import LabelledBox
from tests.support.pictures import encoded, gradient, turned

CLASSES = ["airplane", "helicopter"]
AT = (0.5, 0.5, 0.25, 0.25)
AIRPLANE, HELICOPTER = LabelledBox("airplane", AT), LabelledBox("helicopter", AT)
Picture = Callable[..., LabelledPicture]


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """Makes a picture of the dataset; its digest follows from its name."""

    def make(name: str, text: bytes | None = b"0 0.5 0.5 0.25 0.25\n") -> LabelledPicture:
        (tmp_path / name).write_bytes(encoded(gradient()))
        return LabelledPicture(name, tmp_path / name, digest(name), text, parse_boxes(text or b"", CLASSES), None)

    return make


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def drawn(boxes: list[LabelledBox] | None, origin: str = "", image: Path | None = None, name: str = "") -> Annotation:
    return Annotation(1, {"origin": origin}, boxes, datetime.now(UTC), image, name)


def merged(before: list[LabelledPicture], annotations: dict[str, Annotation]) -> MergedDataset:
    by_digest = {digest(name): annotation for name, annotation in annotations.items()}
    return merge(LabelledDataset(CLASSES, before, {}), by_digest, set(), CLASSES, "stored")


def texts(result: MergedDataset) -> dict[str, bytes | None]:
    return {each.name: each.text for each in result.dataset.pictures}


def test_the_dataset_stays_when_nothing_was_annotated(picture: Picture) -> None:
    assert merged([], {}).dataset.pictures == []
    before = [picture("a.jpg"), picture("b.jpg", None), picture("c.jpg", b"")]
    result = merged(before, {"a.jpg": drawn(None)})
    assert result.dataset.pictures == before and not any(result.counts.values())


@pytest.mark.parametrize(
    "text",
    [b"0 0.5 0.5 0.25 0.25\r\n", b"0 .500000001 0.5 0.25 0.25 0.9\n", b"0 0.375 0.375 0.625 0.375 0.625 0.625\n"],
)
def test_a_label_file_stays_byte_for_byte_when_its_boxes_are_drawn_again(picture: Picture, text: bytes) -> None:
    result = merged([picture("a.jpg", text)], {"a.jpg": drawn([AIRPLANE], "dataset")})
    assert (any(result.counts.values()), texts(result)) == (False, {"a.jpg": text})


@pytest.mark.parametrize("boxes", [[], [HELICOPTER], [LabelledBox("airplane", (0.5, 0.5, 0.25, 0.3))]])
def test_a_picture_is_relabelled_when_its_boxes_differ(picture: Picture, boxes: list[LabelledBox]) -> None:
    result = merged([picture("a.jpg")], {"a.jpg": drawn(boxes, "feedback")})
    assert (result.relabelled, result.added, result.removed) == (["a.jpg"], [], [])
    assert texts(result) == {"a.jpg": label_text(boxes, CLASSES)}
    assert result.origins == {"feedback": 1}


def test_a_picture_is_added_with_a_free_name_when_it_is_new(picture: Picture, tmp_path: Path) -> None:
    new = drawn([HELICOPTER], "capture", picture("17").image, "../A.JPG")
    result = merged([picture("a.jpg")], {"new": new})
    (name,) = result.added
    assert name == f"A-{digest('new')[:8]}.JPG" and result.origins == {"capture": 1}
    assert texts(result)[name] == b"1 0.500000 0.500000 0.250000 0.250000\n"


def test_boxes_turn_back_when_the_new_picture_is_stored_sideways(tmp_path: Path) -> None:
    (tmp_path / "17").write_bytes(turned(6))
    new = drawn([LabelledBox("airplane", (0.25, 0.5, 0.1, 0.2))], "import", tmp_path / "17", "a.jpg")
    assert texts(merged([], {"new": new})) == {"a.jpg": b"0 0.500000 0.750000 0.200000 0.100000\n"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_come_back_when_the_picture_is_turned(orientation: int, tmp_path: Path) -> None:
    boxes = [LabelledBox("a", (0.3, 0.2, 0.1, 0.3)), LabelledBox("b", (0.8, 0.6, 0.4, 0.2))]
    stored = [box.xywhn for box in boxes]
    picture = tmp_path / "a.jpg"
    picture.write_bytes(turned(orientation))
    upright = upright_boxes(boxes, picture, "stored")
    assert np.allclose([box.xywhn for box in upright], turn_boxes(stored, orientation))
    back = dataset_boxes(upright, picture, "stored")
    assert [box.label for box in back] == ["a", "b"]
    assert np.allclose([box.xywhn for box in back], stored)
    assert upright_boxes([], picture, "stored") == []
    assert upright_boxes(boxes, picture, "seen") == dataset_boxes(boxes, picture, "seen") == boxes
    picture.write_bytes(b"nothing")
    assert upright_boxes(boxes, picture, "stored") == dataset_boxes(boxes, picture, "stored") == boxes


def test_names_stay_when_more_is_added_later(picture: Picture) -> None:
    new = {name: drawn([], "", picture(name).image, "clip.jpg") for name in ("one", "two", "three")}
    first = merged([], {"two": new["two"]})
    names = {each.sha256: each.name for each in merged(first.dataset.pictures, new).dataset.pictures}
    assert names == {digest("two"): "clip.jpg"} | {digest(n): f"clip-{digest(n)[:8]}.jpg" for n in ("one", "three")}


def test_ids_follow_the_names_when_the_class_list_changes(picture: Picture) -> None:
    before = LabelledDataset(CLASSES, [picture("a.jpg"), picture("b.jpg", b"1 0.5 0.5 0.25 0.25\n")], {})
    swapped = merge(before, {}, set(), ["ship", "helicopter", "airplane"], "stored")
    assert {name: text[:1] for name, text in texts(swapped).items() if text} == {"a.jpg": b"2", "b.jpg": b"1"}
    longer = merge(before, {}, set(), [*CLASSES, "ship"], "stored")
    assert longer.dataset.pictures == before.pictures
    with pytest.raises(LabelStudioError, match=r"dataset\.classes.* 1 boxes of helicopter"):
        merge(before, {}, set(), ["airplane"], "stored")


def test_nothing_is_written_when_counts_or_boxes_disagree(picture: Picture) -> None:
    before = LabelledDataset(CLASSES, [picture("a.jpg"), picture("b.jpg")], {})
    for boxes, removed in (([HELICOPTER], []), ([AIRPLANE], ["b.jpg"])):
        wrong = LabelledDataset(CLASSES, [replace(picture("a.jpg"), boxes=boxes), picture("b.jpg")], {})
        with pytest.raises(LabelStudioError, match=r"a\.jpg|2 pictures, 2 names, 2 files, but 1"):
            check_merged(MergedDataset(wrong, removed=removed), before)


def test_boxes_are_the_same_when_order_and_duplicates_differ() -> None:
    assert same_boxes([AIRPLANE, HELICOPTER], [HELICOPTER, AIRPLANE, AIRPLANE])
    assert same_boxes([], [])
    assert not same_boxes([AIRPLANE], [AIRPLANE, HELICOPTER])
    assert not same_boxes([AIRPLANE], [])
    assert not same_boxes([AIRPLANE], [LabelledBox("airplane", (0.5, 0.5, 0.25, 0.2501))])


def test_a_name_is_free_when_its_stem_is_taken_in_another_case() -> None:
    taken: set[str] = set()
    assert [free_name("a.jpg", "0" * 64, taken), free_name("A.png", "1" * 64, taken)] == ["a.jpg", "A-11111111.png"]
    assert free_name("a.jpg", "1" * 64, taken) == "a-111111111.jpg"
