from typing import Any, Literal

import numpy as np
import pytest

from runner.label_studio.regions import LabelledBox, agree, labels_of, one_each, read_regions, region

CLASSES = ["airplane", "helicopter"]
BOX = LabelledBox("helicopter", (0.275, 0.325, 0.3, 0.25))


def changed(**changes: Any) -> dict[str, Any]:
    made = region(BOX, (320, 240), 0)
    value = {key: changes.pop(key) for key in list(changes) if key in made["value"]}
    return {**made, **changes, "value": made["value"] | value}


def read(*result: object, rotated: Literal["box", "refuse"] = "box") -> tuple[list[LabelledBox], list[str], list[str]]:
    found = read_regions(list(result), CLASSES, rotated)
    boxes = [LabelledBox(box.label, tuple(round(it, 4) for it in box.xywhn)) for box in found.boxes]  # type: ignore[arg-type]
    return boxes, found.problems, found.notes


def test_a_box_comes_back_when_written_and_read() -> None:
    assert read() == ([], [], [])
    assert read(region(BOX, (320, 240), 3)) == ([BOX], [], [])
    assert region(BOX, (320, 240), 3, 0.5)["score"] == 0.5
    value = region(BOX, (320, 240), 3)["value"]
    assert value.pop("rectanglelabels") == ["helicopter"]
    assert value == pytest.approx({"x": 12.5, "y": 20, "width": 30, "height": 25, "rotation": 0})


def test_a_turned_box_becomes_the_box_around_it_when_it_may() -> None:
    """The corners are those of Label Studio's own export of oriented boxes for this region."""
    turned = changed(x=40, y=40, width=30, height=20, rotation=30)
    corners = np.array([(0.4, 0.4), (0.6598, 0.6), (0.5848, 0.7732), (0.325, 0.5732)])
    (box,), problems, (note,) = read(turned)
    x, y, w, h = box.xywhn
    assert (x - w / 2, y - h / 2) == pytest.approx(corners.min(axis=0), abs=2e-4)
    assert (x + w / 2, y + h / 2) == pytest.approx(corners.max(axis=0), abs=2e-4)
    assert not problems and "helicopter" in note and "30 degrees" in note
    boxes, (problem,), _ = read(turned, rotated="refuse")
    assert not boxes and problem.startswith("region 1: ") and "30 degrees" in problem and "labels.rotated" in problem


@pytest.mark.parametrize("rotation", [90, -270, 89.999, 450])
def test_a_box_is_exact_when_turned_by_a_right_angle(rotation: float) -> None:
    (box,), problems, notes = read(changed(x=50, y=50, width=30, height=20, rotation=rotation), rotated="refuse")
    assert box.xywhn == pytest.approx((0.5 - 0.075, 0.7, 0.15, 0.4), abs=2e-3)
    assert not problems and not notes


@pytest.mark.parametrize(
    ("changes", "corners", "note"),
    [
        ({"x": 90, "width": 200}, (0.9, 1.0), "clipped"),
        ({"x": -10, "width": 20}, (0.0, 0.1), "clipped"),
        ({"x": 12.5, "width": 87.50001}, (0.125, 1.0), None),
        ({"x": 30, "width": -20}, (0.1, 0.3), None),
        ({"x": 10, "width": -20}, (0.0, 0.1), "clipped"),
    ],
)
def test_a_box_stays_inside_when_drawn_over_the_edge(
    changes: dict[str, float], corners: tuple[float, float], note: str | None
) -> None:
    """A negative width or height leads back from x or y: the editor shows the same box."""
    (box,), problems, notes = read(changed(**changes))
    assert not problems
    assert [text.rpartition(", ")[2] for text in notes] == ([note] if note else [])
    x, _, w, _ = box.xywhn
    assert (x - w / 2, x + w / 2) == pytest.approx(corners, abs=1e-4)


def test_a_box_is_the_same_when_its_height_is_negative_and_it_is_turned() -> None:
    (upright,), *_ = read(changed(y=20, height=25))
    assert read(changed(y=45, height=-25)) == ([upright], [], [])
    # Turned by a half circle about its lower right corner.
    (turned,), *_ = read(changed(x=42.5, y=45, width=30, height=25, rotation=180))
    assert turned.xywhn == pytest.approx(upright.xywhn, abs=1e-4)
    (flipped,), *_ = read(changed(x=42.5, y=20, width=30, height=-25, rotation=180))
    assert flipped.xywhn == pytest.approx(upright.xywhn, abs=1e-4)


@pytest.mark.parametrize("changes", [{"x": 110}, {"y": -50}, {"width": 0}, {"height": 0.0}, {"x": 0, "width": -5}])
def test_a_picture_never_becomes_background_when_its_only_box_is_empty(changes: dict[str, float]) -> None:
    boxes, (problem,), notes = read(changed(**changes))
    assert not boxes and not notes and problem.startswith("region 1: helicopter: empty or outside the picture")
    boxes, problems, (note,) = read(changed(), changed(**changes))
    assert boxes == [BOX] and not problems and note.startswith("region 2: helicopter") and note.endswith("left out")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (changed(rectanglelabels=CLASSES), "2 labels"),
        (changed(type="polygonlabels"), "a polygonlabels"),
        (changed(type="relation"), "a relation"),
        (changed(image_rotation=90), "drawn while the picture was turned"),
        (changed(x="12"), "x is 12"),
        (changed(x=float("nan")), "x is nan"),
        (changed(y=None), "y is None"),
        (changed(rotation=30, original_width=0), "turned, and the size"),
        ({"type": "rectanglelabels"}, "not a region of Label Studio"),
        ("text", "not a region of Label Studio"),
    ],
)
def test_the_problem_is_named_when_a_region_is_no_box_of_ours(result: object, problem: str) -> None:
    boxes, (found,), _ = read(changed(), result)
    assert len(boxes) == 1 and found.startswith(f"region 2: {problem}")


@pytest.mark.parametrize("result", [None, "x", {"a": 1}])
def test_the_annotation_is_refused_when_its_result_is_no_list(result: object) -> None:
    found = read_regions(result, CLASSES, "box")
    assert not found.boxes and len(found.problems) == 1


def at(label: str, x: float, y: float = 0.5) -> LabelledBox:
    return LabelledBox(label, (x, y, 0.2, 0.2))


def test_a_thing_is_shown_once_when_the_model_found_it_as_two_classes() -> None:
    """Of one class, the detector has suppressed what overlaps; a smaller overlap is of two things."""
    assert one_each([]) == []
    far, beside = (at("airplane", 0.9), 0.3), (at("helicopter", 0.38), 0.4)
    found = [(at("helicopter", 0.3), 0.54), far, (at("airplane", 0.31), 0.66), beside, (at("airplane", 0.32), 0.2)]
    assert one_each(found) == [far, found[2], beside, found[4]]


def test_people_agree_when_they_drew_the_same_things() -> None:
    assert agree([], [])
    assert agree([at("airplane", 0.3), at("helicopter", 0.3)], [at("helicopter", 0.32), at("airplane", 0.29)])
    assert not agree([at("airplane", 0.3)], [])
    assert not agree([at("airplane", 0.3)], [at("helicopter", 0.3)])
    assert not agree([at("airplane", 0.3)], [at("airplane", 0.5)])


def test_labels_are_found_when_regions_are_of_any_kind() -> None:
    odd = {"type": "polygonlabels", "value": {"polygonlabels": ["ship"], "points": [[1, 2]], "closed": True}}
    assert labels_of([changed(), odd, {"value": None}, 3]) == {"helicopter", "ship"}
    assert labels_of(None) == set()
