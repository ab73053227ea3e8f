"""Copies of one picture: which one stays, and which pairs disagree."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.dataset.duplicates import Copy, describe_pairs, sort_copies
from runner.dataset.labels import parse_labels
from tests.support.pictures import encoded, gradient

BOX, MOVED = "0 0.5 0.5 0.5 0.5\n", "0 0.5 0.6 0.5 0.5\n"


def copy(name: str, text: str, part: str | None = None, sha256: str = "a", file: Path = Path()) -> Copy:
    return Copy(name, sha256, part, parse_labels(text.encode(), where="", classes=2), file)


@pytest.mark.parametrize(
    ("copies", "leaving"),
    [
        ([], set()),
        ([copy("a", BOX), copy("b", BOX, sha256="b")], set()),
        ([copy("b", BOX), copy("a", BOX)], {"b"}),
        ([copy("a", BOX, "train"), copy("b", BOX, "test"), copy("c", BOX, "val")], {"a", "c"}),
        ([copy("a", "", "test"), copy("b", BOX, "train")], {"a"}),
        ([copy("a", ""), copy("b", "")], {"b"}),
        ([copy("a", BOX), copy("b", "0 0.5009 0.5 0.5 0.4991\n")], {"b"}),
        ([copy("a", f"1 0.1 0.1 0.1 0.1\n{BOX}"), copy("b", f"{BOX}1 0.1 0.1 0.1 0.1\n")], {"b"}),
    ],
)
def test_one_stays_when_the_labels_are_equal(copies: list[Copy], leaving: set[str]) -> None:
    left, pairs = sort_copies(copies, "refuse")
    assert (set(left), pairs) == (leaving, [])


@pytest.mark.parametrize("text", [MOVED, BOX + MOVED, "1 0.5 0.5 0.5 0.5\n", "0 0.5 0.502 0.5 0.5\n"])
def test_pairs_are_returned_when_the_labels_differ(text: str) -> None:
    copies = [copy("b", text), copy("a", BOX), copy("c", "")]
    left, pairs = sort_copies(copies, "refuse")
    assert left.keys() == {"c"}
    assert [(one.name, other.name) for one, other in pairs] == [("a", "b")]
    left, pairs = sort_copies(copies, "labelled")
    assert (set(left), pairs) == ({"a" if text.count("\n") > 1 else "b", "c"}, [])


def test_pairs_are_drawn_beside_each_other(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(gradient(100, 100), "PNG"))
    pair = (copy("one", BOX, file=file), copy("two", MOVED, file=file))
    text = describe_pairs([pair], ["a", "b"], tmp_path / "new" / "pairs.jpg")
    assert "one and two" in text and str(tmp_path / "new" / "pairs.jpg") in text
    with Image.open(tmp_path / "new" / "pairs.jpg") as sheet:
        left, right = np.split(np.asarray(sheet.convert("L"), dtype=float), 2, axis=1)
    assert np.abs(left - right).max() > 50  # boxes, in other places
