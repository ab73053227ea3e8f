"""Index of a version: canonical bytes, and nothing unsafe in them."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.dataset.index import Index, PictureRow, format_index, parse_index
from runner.dataset.labels import Labels, label_text, parse_labels
from runner.errors import DatasetError

LINE = "0 0.500000 0.500000 0.250000 0.250000\n"
ROWS = [
    PictureRow("a" * 64, "größe \u2028 1.jpg", 123, 640, 480, "train", LINE),
    PictureRow("b" * 64, "b.png", 5, None, None, None, ""),
    PictureRow("b" * 64, "a copy.png", 5, None, None, None, LINE),
]
INDEX = Index(["plane", "light aircraft"], {"SOURCE": ("d" * 64, 1), "LICENSE": ("c" * 64, 7)}, ROWS)


def labels(*boxes: tuple[float, ...]) -> Labels:
    table = np.array(boxes, dtype=np.float64).reshape(-1, 5)
    return Labels(table[:, 0].astype(np.int64), table[:, 1:], [], [])


def test_empty_index_comes_back() -> None:
    assert parse_index(format_index(Index(["a"], {}, [])), "x") == Index(["a"], {}, [])


def test_bytes_are_the_same_in_any_order() -> None:
    about = dict(reversed(INDEX.about.items()))
    found = {format_index(Index(INDEX.classes, about, list(rows))) for rows in itertools.permutations(ROWS)}
    (content,) = found
    assert content == format_index(INDEX)
    head, first, second, _ = content.decode().split("\n")[:4]
    assert json.loads(head) == {
        **{"format": 1, "classes": INDEX.classes},
        "about": {"LICENSE": ["c" * 64, 7], "SOURCE": ["d" * 64, 1]},
    }
    assert first == f'["{"a" * 64}","größe \u2028 1.jpg",123,640,480,"train","{LINE[:-1]}\\n"]'
    assert json.loads(second)[1] == "a copy.png"
    again = parse_index(content, "x")
    assert sorted(again.rows) == sorted(ROWS) and again.about == INDEX.about
    assert (again.boxes, again.sizes["d" * 64]) == ([2, 0], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"format":1', '"format":2'), "its format is 2, expected 1"),
        (lambda text: text.replace("b.png", "../b.png"), "b.png.* leads out"),
        (lambda text: text.replace("b.png", "x/b.png"), "x/b.png is no plain file name"),
        (lambda text: text.replace("b.png", "A copy.png"), "are one file on many disks"),
        (lambda text: text.replace("LICENSE", "../LICENSE"), "LICENSE.* leads out"),
        (lambda text: text.replace('"train"', '"other"'), "no known part"),
        (lambda text: text.replace("a" * 64, "A" * 64), "has no digest"),
        (lambda text: text[:-30], "is no index of a dataset"),
        (lambda text: "", "is no index of a dataset"),
        (lambda text: "[1]\n", "is no index of a dataset"),
    ],
)
def test_index_is_refused_when_it_is_none_or_unsafe(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(DatasetError, match=f"^store:x: .*{message}"):
        parse_index(change(format_index(INDEX).decode()).encode(), "store:x")


def test_label_lines_are_sorted_and_each_is_there_once() -> None:
    given_ = labels((10, 0.5, 0.5, 0.1, 0.1), (2, 0.5, 0.5, 0.1, 0.1), (2, 0.4, 0.5, 0.1, 0.1), (2, 0.4, 0.5, 0.1, 0.1))
    assert [line.split()[:2] for line in label_text(given_).splitlines()] == [
        *(["2", "0.400000"], ["2", "0.500000"], ["10", "0.500000"])
    ]
    assert label_text(labels()) == ""


fractions = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(st.integers(0, 3), fractions, fractions, fractions, fractions), max_size=4))
def test_label_lines_stay_when_they_are_read_and_written_again(boxes: list[tuple[float, ...]]) -> None:
    text = "".join(" ".join(map(str, (int(box[0]), *box[1:]))) + "\n" for box in boxes)
    once = label_text(parse_labels(text.encode(), where="", classes=4))
    again = parse_labels(once.encode(), where="", classes=4)
    assert label_text(again) == once
    assert (again.problems, again.notes) == ([], [])
    assert label_text(replace(again, boxes_xywhn=again.boxes_xywhn[::-1], class_ids=again.class_ids[::-1])) == once
