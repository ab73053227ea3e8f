import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from runner.dataset.labels import Boxes, Labels, format_labels, parse_labels, turn_boxes

GOOD = "1 0.5 0.5 0.2 0.1"


def parse(text: bytes | str, classes: int = 3) -> Labels:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return parse_labels(data, where="labels/a.txt", classes=classes)


@pytest.mark.parametrize("text", ["", b"", "\n", "  \r\n\t\r\n", b"\xef\xbb\xbf"])
def test_parse_gives_no_boxes_when_file_is_empty(text: bytes | str) -> None:
    labels = parse(text)
    assert labels.class_ids.shape == (0,)
    assert labels.class_ids.dtype == np.int64
    assert labels.boxes_xywhn.shape == (0, 4)
    assert labels.boxes_xywhn.dtype == np.float64
    assert labels.problems == labels.notes == []


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD}\n0 0.1 0.1 0.1 0.1\n",
        f"{GOOD}\n0 0.1 0.1 0.1 0.1",
        f"{GOOD}\r\n0 0.1 0.1 0.1 0.1\r\n",
        f"{GOOD}\r0 0.1 0.1 0.1 0.1",
        f"\ufeff{GOOD}\n\n\n0 0.1 0.1 0.1 0.1\n",
        f"{GOOD}\n0 0.1 0.1 0.1 0.1\n".encode("utf-8-sig"),
        f"{GOOD}\n0 0.1 0.1 0.1 0.1\n".encode("utf-16"),
        "1\t0.5\t0.5\t0.2\t0.1\n  0 .1  1e-1 +0.1 0.1  ",
        "1.0 0.5 0.5 0.2 0.1\n0.000 0.1 0.1 0.1 0.1\n",
    ],
)
def test_parse_reads_every_line_when_the_writing_is_odd(text: bytes | str) -> None:
    labels = parse(text)
    assert labels.class_ids.tolist() == [1, 0]
    assert labels.boxes_xywhn.tolist() == [[0.5, 0.5, 0.2, 0.1], [0.1, 0.1, 0.1, 0.1]]
    assert labels.problems == labels.notes == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1", "1 column ('1'),"),
        ("1 0.5 0.5 0.2", "4 columns,"),
        ("1 0.1 0.1 0.5 0.5 0.2 0.2 0.3", "8 columns,"),
        ("1,0.5,0.5,0.2,0.1", "1 column ('1,0.5,0.5,0.2,0.1'),"),
        ("1 0,5 0,5 0,2 0,1", "'0,5' is not a number"),
        ("cat 0.5 0.5 0.2 0.1", "'cat' is not a number"),
        ("1 0.5 0.5 0.2 0_1", "'0_1' is not a number"),
        ("1 0.5 0.5 0.2 ٣", "is not a number"),
        *((f"{it} 0.5 0.5 0.2 0.1", f"class id {it}, but the dataset lists 3 classes (0-2)") for it in (7, 3, -1)),
        ("0.5 0.5 0.5 0.2 0.1", "class id 0.5,"),
        ("nan 0.5 0.5 0.2 0.1", "class id nan,"),
        ("1 nan 0.5 0.2 0.1", "nan is not finite"),
        ("1 0.5 0.5 1e999 0.1", "inf is not finite"),
        ("1 0.1 0.1 0.5 Infinity 0.2 0.2", "inf is not finite"),
        ("1 320 240 64 48", "320 is no fraction"),
        ("1 0.5 0.5 0 0.1", "width 0, height 0.1,"),
        ("1 0.5 0.5 0.1 0.0000004", "width 0.1, height 4e-07,"),
        ("1 0.5 0.5 -0.2 0.1", "width -0.2, height 0.1,"),
        ("1 0.1 0.2 0.5 0.2 0.9 0.2", "width 0.8, height 0,"),
        ("1 1.5 0.5 0.2 0.1", "outside of the picture"),
        ("1 0.5 -0.5 0.2 1.0", "outside of the picture"),
        ("1 0.5 0.5 0.4 0.1 1.57", "sixth column 1.57,"),
        ("1 0.5 0.5 0.4 0.1 -0.3", "sixth column -0.3,"),
        ("1 0.5 0.5 0.4 0.1 nan", "sixth column nan,"),
    ],
)
def test_parse_leaves_a_line_out_and_names_it_when_it_is_wrong(line: str, problem: str) -> None:
    labels = parse(f"{GOOD}\n\n{line}\n0 0.1 0.1 0.1 0.1\n")
    assert labels.class_ids.tolist() == [1, 0]
    (found,) = labels.problems
    assert found.startswith("labels/a.txt:3: ") and problem in found
    assert labels.notes == []


def test_parse_names_the_only_class_when_there_is_one() -> None:
    (problem,) = parse("1 0.5 0.5 0.1 0.1", classes=1).problems
    assert problem.endswith(": class id 1, but the dataset lists one class (0)")


@pytest.mark.parametrize(
    ("line", "box", "notes"),
    [
        ("0 0.95 0.05 0.2 0.2", [0.925, 0.075, 0.15, 0.15], ["x 0.85 to 1.05, y -0.05 to 0.15 clipped"]),
        ("0 0.95 0.5 2.0 0.2", [0.5, 0.5, 1, 0.2], ["clipped to the picture, expected 0-1"]),
        ("0 1.05 0.5 0.2 0.2", [0.975, 0.5, 0.05, 0.2], ["clipped to the picture, expected 0-1"]),
        ("0 0.1000 0.5 0.20005 0.2", [0.1000125, 0.5, 0.200025, 0.2], []),  # the tool only rounded
        ("0 0.1 0.2 0.5 0.2 0.3 0.6", [0.3, 0.4, 0.4, 0.4], ["polygon of 3 points turned into its box"]),
        ("0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6", [0.3, 0.4, 0.4, 0.4], ["polygon of 4 points turned into its box"]),
        ("0 -0.1 0.2 0.5 0.2 0.3 0.6", [0.25, 0.4, 0.5, 0.4], ["polygon of 3 points", "x -0.1 to 0.5"]),
        ("0 0.5 0.5 0.2 0.2 31", [0.5, 0.5, 0.2, 0.2], ["sixth column 31 ignored"]),
        ("0 0.5 0.5 0.2 0.2 0.97", [0.5, 0.5, 0.2, 0.2], ["sixth column 0.97 ignored (a confidence?), expected 5"]),
    ],
)
def test_parse_repairs_a_line_and_notes_it(line: str, box: list[float], notes: list[str]) -> None:
    labels = parse(line)
    np.testing.assert_allclose(labels.boxes_xywhn, [box], atol=1e-12)
    assert labels.problems == []
    for note, found in zip(notes, labels.notes, strict=True):
        assert found.startswith("labels/a.txt:1: ") and note in found


def test_parse_reads_the_box_alone_when_the_dataset_has_keypoints() -> None:
    text = b"0 0.4 0.4 0.1 0.1 0.35 0.35 2 0 0 0\n0 0.2 0.2 0.1 0.1\n0 0.1 0.1 0.5 0.1 0.5 0.5\n"
    labels = parse_labels(text, where="a.txt", classes=1, keypoints=6)
    np.testing.assert_allclose(labels.boxes_xywhn, [[0.4, 0.4, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1]])
    assert labels.notes == []
    (problem,) = labels.problems
    assert problem.startswith("a.txt:3: 7 columns, expected 5 (class x y w h) or 11")


def test_parse_counts_the_boxes_that_it_clips() -> None:
    assert (
        parse("0 0.95 0.5 0.2 0.2\n0 -0.1 0.2 0.5 0.2 0.3 0.6\n0 0.1000 0.5 0.20005 0.2\n0 0.5 0.5 1 1\n").clipped == 2
    )


def test_parse_keeps_one_and_notes_the_others_when_boxes_are_duplicates() -> None:
    labels = parse(f"{GOOD}\n0 0.5 0.5 0.2 0.1\n1 0.5000000001 0.5 0.2 0.1\n{GOOD} 0.9\n")
    assert labels.class_ids.tolist() == [1, 0]
    assert labels.problems == []
    assert labels.notes == [
        "labels/a.txt:3: the same box as in line 1, kept once",
        "labels/a.txt:4: the same box as in line 1, kept once",
    ]


@given(st.binary(max_size=200) | st.text(max_size=200) | st.text("0123456789.-+eEnaif \t\r\n", max_size=200))
def test_parse_accounts_for_every_line_whatever_the_file_holds(text: bytes | str) -> None:
    labels = parse(text)
    assert len(labels.class_ids) == len(labels.boxes_xywhn)
    assert set(labels.class_ids.tolist()) <= {0, 1, 2}
    x, y, w, h = labels.boxes_xywhn.T
    assert np.isfinite(labels.boxes_xywhn).all()
    assert (np.minimum(w, h) >= 1e-6).all()
    assert (np.minimum(x - w / 2, y - h / 2) >= -1e-12).all()
    assert (np.maximum(x + w / 2, y + h / 2) <= 1 + 1e-12).all()
    assert all(message.startswith("labels/a.txt:") for message in labels.problems + labels.notes)


corners = st.tuples(st.integers(0, 998), st.integers(0, 998), st.integers(1, 999), st.integers(1, 999)).map(
    lambda box: (box[0] / 1000, box[1] / 1000, min(box[0] + box[2], 1000) / 1000, min(box[1] + box[3], 1000) / 1000)
)
lines = st.lists(st.tuples(st.integers(0, 2), corners), unique=True, max_size=20)


def xywhn(boxes_xyxyn: list[tuple[float, float, float, float]]) -> Boxes:
    corners = np.array(boxes_xyxyn, dtype=np.float64).reshape(-1, 4)
    return np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])


@given(lines)
def test_parse_gives_back_what_format_wrote(boxes: list[tuple[int, tuple[float, float, float, float]]]) -> None:
    boxes_xywhn = xywhn([box for _, box in boxes])
    labels = parse(format_labels([class_id for class_id, _ in boxes], boxes_xywhn))
    assert labels.class_ids.tolist() == [class_id for class_id, _ in boxes]
    np.testing.assert_allclose(labels.boxes_xywhn, boxes_xywhn, atol=2e-6)
    assert labels.problems == labels.notes == []


def test_format_writes_six_decimals() -> None:
    assert format_labels([], np.empty((0, 4))) == ""
    assert format_labels([2], [[0.5, 1 / 3, 1, 1e-6]]) == "2 0.500000 0.333333 1.000000 0.000001\n"


@pytest.mark.parametrize("orientation", range(1, 9))
@given(st.integers(2, 12), st.integers(2, 12), st.tuples(*[st.integers(0, 11)] * 2, *[st.integers(1, 12)] * 2))
def test_turned_box_covers_the_turned_object(
    orientation: int, width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    x1, y1 = box[0] % width, box[1] % height
    x2, y2 = min(x1 + box[2], width), min(y1 + box[3], height)
    picture = Image.new("L", (width, height))
    picture.paste(255, (x1, y1, x2, y2))
    picture.getexif()[0x0112] = orientation
    seen = ImageOps.exif_transpose(picture)

    stored = xywhn([(x1 / width, y1 / height, x2 / width, y2 / height)])
    (x, y, w, h) = turn_boxes(stored, orientation)[0]
    found = [(x - w / 2) * seen.width, (y - h / 2) * seen.height, (x + w / 2) * seen.width, (y + h / 2) * seen.height]
    assert found == pytest.approx(seen.getbbox(), abs=1e-9)


@pytest.mark.parametrize("orientation", [0, 1, 9, -1])
def test_turn_leaves_boxes_alone_when_the_tag_says_nothing(orientation: int) -> None:
    assert turn_boxes([[0.1, 0.2, 0.3, 0.4]], orientation).tolist() == [[0.1, 0.2, 0.3, 0.4]]
    assert turn_boxes(np.empty((0, 4)), orientation).shape == (0, 4)
