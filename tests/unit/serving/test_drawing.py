import pytest
from PIL import Image

from serving.drawing import annotate, marks_of
from serving.storage.detections import Box, Detection


def test_same_picture_when_nothing_was_found() -> None:
    image = Image.effect_noise((640, 480), 50).convert("RGB")
    assert annotate(image, []).tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (490, 3), (122, 103), (480, 480), (5000, 40), (3000, 2000)])
def test_a_label_is_on_the_picture_when_it_has_any_size(size: tuple[int, int]) -> None:
    box = Box(x1=0, y1=0, x2=size[0], y2=size[1])
    found = Detection(label="helicopter", class_id=0, confidence=0.9, box=box)
    drawn = annotate(Image.new("RGB", size, "white"), [found])
    assert max(drawn.size) >= 480
    assert min(drawn.size) >= 26  # a line of text fits
    assert drawn.width / drawn.height == pytest.approx(size[0] / size[1], rel=0.02) or min(size) * 10 < max(size)
    colours = {colour for _, colour in drawn.getcolors(1_000_000) or []}
    assert (0xE6, 0x9F, 0x00) in colours


def test_confidence_stays_on_the_label_when_the_name_is_a_long_text() -> None:
    box = Box(x1=0, y1=0, x2=9, y2=9)
    names = ("dog", "a brown dog " * 400)
    short, long = (marks_of([Detection(label=name, class_id=0, confidence=0.9, box=box)])[0][1] for name in names)
    assert short == "dog 0.90"
    assert len(long) < 80 and long.startswith("a brown dog a ") and long.endswith(" 0.90")
