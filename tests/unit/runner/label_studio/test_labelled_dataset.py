"""Boxes of pictures that EXIF turns: upright in Label Studio, and back in the dataset's frame."""

from pathlib import Path

import numpy as np
import pytest

from runner.dataset.labels import turn_boxes
from runner.label_studio.labelled_dataset import dataset_boxes, upright_boxes
from runner.label_studio.regions import LabelledBox
from tests.support.pictures import turned

BOXES = [LabelledBox("a", (0.3, 0.2, 0.1, 0.3)), LabelledBox("b", (0.8, 0.6, 0.4, 0.2))]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_come_back_when_the_picture_is_turned(orientation: int, tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(turned(orientation))
    upright = upright_boxes(BOXES, picture, "stored")
    assert np.allclose([box.xywhn for box in upright], turn_boxes([box.xywhn for box in BOXES], orientation))
    assert [box.label for box in upright] == ["a", "b"]
    assert np.allclose([box.xywhn for box in dataset_boxes(upright, picture, "stored")], [box.xywhn for box in BOXES])


def test_boxes_stay_when_the_dataset_has_them_upright_or_there_is_no_picture(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(turned(6))
    assert upright_boxes(BOXES, picture, "seen") == dataset_boxes(BOXES, picture, "seen") == BOXES
    assert upright_boxes([], picture, "stored") == []
    picture.write_bytes(b"nothing")
    assert upright_boxes(BOXES, picture, "stored") == dataset_boxes(BOXES, picture, "stored") == BOXES
