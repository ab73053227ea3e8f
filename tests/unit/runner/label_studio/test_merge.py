"""The dataset and the annotations, joined by digest: names and rows stay where nothing changed."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.dataset.index import Index, PictureRow
from runner.errors import LabelStudioError
from runner.label_studio.annotations import Annotation
from runner.label_studio.labelled_dataset import read_boxes, write_boxes
from runner.label_studio.merge import MergedDataset, check_merged, free_name, merge, same_boxes
from runner.label_studio.regions import LabelledBox
from tests.support.pictures import encoded, gradient, turned

CLASSES = ["airplane", "helicopter"]
AT = (0.5, 0.5, 0.25, 0.25)
AIRPLANE, HELICOPTER = LabelledBox("airplane", AT), LabelledBox("helicopter", AT)


def row(name: str, labels: str = "0 0.500000 0.500000 0.250000 0.250000\n") -> PictureRow:
    """A picture of the dataset; its digest follows from its name."""
    return PictureRow(digest(name), name, 100, 40, 30, None, labels)


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A new picture."""
    (tmp_path / "17").write_bytes(encoded(gradient()))
    return tmp_path / "17"


def drawn(boxes: list[LabelledBox] | None, origin: str = "", image: Path | None = None, name: str = "") -> Annotation:
    return Annotation(1, {"origin": origin}, boxes, datetime.now(UTC), image, name)


def merged(before: list[PictureRow], annotations: dict[str, Annotation], removed: str = "") -> MergedDataset:
    by_digest = {digest(name): annotation for name, annotation in annotations.items()}
    return merge(Index(CLASSES, {}, before), by_digest, {digest(removed)}, CLASSES)


def texts(result: MergedDataset) -> dict[str, str]:
    return {each.name: each.labels for each in result.index.rows}


def test_the_dataset_stays_when_nothing_was_annotated() -> None:
    assert merged([], {}).index.rows == []
    before = [row("a.jpg"), row("b.jpg", "")]
    result = merged(before, {"a.jpg": drawn(None)})
    assert result.index.rows == before and not any(result.counts.values())


def test_a_row_stays_when_its_boxes_are_drawn_again() -> None:
    before = [row("a.jpg", "0 0.500001 0.500000 0.250000 0.250000\n")]
    result = merged(before, {"a.jpg": drawn([AIRPLANE], "dataset")})
    assert (any(result.counts.values()), result.index.rows) == (False, before)


@pytest.mark.parametrize("boxes", [[], [HELICOPTER], [LabelledBox("airplane", (0.5, 0.5, 0.25, 0.3))]])
def test_a_picture_is_relabelled_when_its_boxes_differ(boxes: list[LabelledBox]) -> None:
    result = merged([row("a.jpg")], {"a.jpg": drawn(boxes, "feedback")})
    assert (result.relabelled, result.added, result.removed) == (["a.jpg"], [], [])
    assert read_boxes(texts(result)["a.jpg"], CLASSES) == boxes
    assert result.origins == {"feedback": 1}


def test_copies_of_a_picture_get_the_same_boxes_when_it_is_annotated() -> None:
    before = [row("a.jpg"), row("b.jpg", "1 0.1 0.1 0.1 0.1\n")._replace(sha256=digest("a.jpg"))]
    result = merged(before, {"a.jpg": drawn([HELICOPTER])})
    assert len({each.labels for each in result.index.rows}) == 1 and len(result.relabelled) == 2


def test_a_picture_is_added_with_a_free_name_when_it_is_new(image: Path) -> None:
    new = drawn([HELICOPTER], "capture", image, "../A.JPG")
    result = merged([row("a.jpg")], {"new": new})
    (name,) = result.added
    assert name == f"A-{digest('new')[:8]}.JPG" and result.origins == {"capture": 1}
    assert texts(result)[name] == "1 0.500000 0.500000 0.250000 0.250000\n"
    assert (result.index.rows[1].width, result.index.rows[1].height) == (40, 30)
    assert result.files == {digest("new"): image}


def test_boxes_stay_when_exif_turns_the_new_picture(image: Path) -> None:
    image.write_bytes(turned(6))
    new = drawn([LabelledBox("airplane", (0.25, 0.5, 0.1, 0.2))], "import", image, "a.jpg")
    result = merged([], {"new": new})
    assert texts(result) == {"a.jpg": "0 0.250000 0.500000 0.100000 0.200000\n"}
    assert (result.index.rows[0].width, result.index.rows[0].height) == (40, 30)


def test_boxes_come_back_from_their_lines() -> None:
    boxes = [LabelledBox("airplane", (0.3, 0.2, 0.1, 0.3)), LabelledBox("helicopter", (0.8, 0.6, 0.4, 0.2))]
    assert read_boxes(write_boxes(boxes[::-1], CLASSES), CLASSES) == boxes
    assert (write_boxes([], CLASSES), read_boxes("", CLASSES)) == ("", [])


def test_names_stay_when_more_is_added_later(image: Path) -> None:
    new = {name: drawn([], "", image, "clip.jpg") for name in ("one", "two", "three")}
    first = merged([], {"two": new["two"]})
    known = [each._replace(sha256=digest("two")) for each in first.index.rows]
    result = merged(known, new)
    names = dict(zip((digest("two"), *result.files), (each.name for each in result.index.rows), strict=True))
    assert names == {digest("two"): "clip.jpg"} | {digest(n): f"clip-{digest(n)[:8]}.jpg" for n in ("one", "three")}


def test_a_picture_is_removed_when_asked_to() -> None:
    result = merged([row("a.jpg"), row("b.jpg")], {}, "a.jpg")
    assert (result.removed, list(texts(result))) == (["a.jpg"], ["b.jpg"])


def test_ids_follow_the_names_when_the_class_list_changes() -> None:
    before = Index(CLASSES, {}, [row("a.jpg"), row("b.jpg", "1 0.500000 0.500000 0.250000 0.250000\n")])
    swapped = merge(before, {}, set(), ["ship", "helicopter", "airplane"])
    assert {name: text[:1] for name, text in texts(swapped).items() if text} == {"a.jpg": "2", "b.jpg": "1"}
    longer = merge(before, {}, set(), [*CLASSES, "ship"])
    assert longer.index.rows == before.rows
    with pytest.raises(LabelStudioError, match=r"dataset\.classes.* 1 boxes of helicopter"):
        merge(before, {}, set(), ["airplane"])


def test_nothing_is_written_when_counts_disagree() -> None:
    before = Index(CLASSES, {}, [row("a.jpg"), row("b.jpg")])
    wrong = MergedDataset(before, removed=["b.jpg"])
    with pytest.raises(LabelStudioError, match=r"2 pictures, 2 names, 0 without a file, but 1 expected"):
        check_merged(wrong, before)
    strange = MergedDataset(Index(CLASSES, {}, [*before.rows, row("c.jpg")]), added=["c.jpg"])
    with pytest.raises(LabelStudioError, match="1 without a file"):
        check_merged(strange, before)


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
