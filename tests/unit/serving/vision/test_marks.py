from itertools import combinations

from PIL import Image, ImageFont

from serving.vision.marks import Mark, Rectangle, draw_boxes, overlap, place_label


def test_labels_apart_when_boxes_are_at_one_place() -> None:
    taken: list[Rectangle] = []
    for _ in range(4):
        taken.append(place_label((100, 100, 300, 200), (120, 20), (640, 480), taken))
    assert not any(overlap(a, b) for a, b in combinations(taken, 2))
    assert all(min(left, top) >= 0 and right <= 640 and bottom <= 480 for left, top, right, bottom in taken)


def test_first_box_on_top_and_label_in_the_area_when_drawn() -> None:
    canvas = Image.new("RGB", (200, 200), "grey")
    marks = [Mark((0, 0, 99, 99), "", "red"), Mark((0, 0, 99, 99), "x", "yellow"), Mark((90, 90, 85, 85), "", "blue")]
    draw_boxes(canvas, marks, ImageFont.load_default(20), 20, 2, (100, 100))
    assert canvas.getpixel((0, 50)) == (255, 0, 0)
    assert canvas.getpixel((90, 90)) == (0, 0, 255)
    colours = {colour for _, colour in canvas.getcolors() or []}
    assert (255, 255, 0) in colours and (0, 0, 0) in colours and (255, 255, 255) not in colours
    assert canvas.crop((100, 0, 200, 200)).getcolors() == [(20_000, (128, 128, 128))]
    assert canvas.crop((0, 100, 100, 200)).getcolors() == [(10_000, (128, 128, 128))]


def test_ink_is_white_when_the_colour_is_dark() -> None:
    canvas = Image.new("RGB", (100, 100), "grey")
    draw_boxes(canvas, [Mark((0, 50, 99, 99), "x", "navy")], ImageFont.load_default(20), 20, 2)
    assert (255, 255, 255) in {colour for _, colour in canvas.getcolors() or []}
