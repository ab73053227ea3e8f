"""Boxes of pictures that EXIF turns go to Label Studio as people see them, and come back as the dataset has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runner.dataset.labels import turn_boxes
from runner.label_studio.browser_pictures import as_kept, as_seen, look_at, turn_of
from runner.label_studio.regions import Box
from tests.support.pictures import encoded, gradient, turned

BOXES = [Box("a", (0.3, 0.2, 0.1, 0.3)), Box("b", (0.8, 0.6, 0.4, 0.2))]


@pytest.mark.parametrize("turn", range(1, 9))
def test_boxes_come_back_when_the_picture_is_turned(turn: int, tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(turned(turn))
    assert turn_of(picture) == turn
    look = look_at(picture.read_bytes())
    assert not isinstance(look, str)
    assert (look.size_px, look.turn, look.suffix) == ((40, 30), turn, ".jpg")
    seen = as_seen(BOXES, turn, "stored")
    assert np.allclose([box.xywhn for box in seen], turn_boxes([box.xywhn for box in BOXES], turn))
    assert [box.label for box in seen] == ["a", "b"]
    back = as_kept(seen, turn, "stored")
    assert np.allclose([box.xywhn for box in back], [box.xywhn for box in BOXES])


def test_boxes_stay_when_the_dataset_has_them_as_seen() -> None:
    assert as_seen(BOXES, 6, "seen") == as_kept(BOXES, 6, "seen") == BOXES
    assert as_seen([], 6, "stored") == []


def test_the_reason_is_given_when_browsers_would_not_show_it() -> None:
    assert str(look_at(encoded(gradient(), "TIFF"))).startswith("a TIFF, which browsers do not show; expected one of J")
    assert "not a picture of a known kind" in str(look_at(b"<html>log in</html>"))


def test_a_turn_of_one_is_taken_when_there_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    assert turn_of(tmp_path / "a.jpg") == 1
