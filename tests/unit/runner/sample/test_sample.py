"""The drawn sample dataset."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.sample import CLASSES, add_aircraft, box_xyxy_px, draw_picture, draw_sample
from runner.sample.airplanes import FAMILIES as AIRPLANES
from runner.sample.helicopters import FAMILIES as HELICOPTERS
from runner.sample.mesh import render, rotation
from runner.sample.sky import WEATHERS, sky

PICTURES = 40


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    draw_sample(folder, pictures=PICTURES, seed=0)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Path inside the folder → sha256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def labels(folder: Path) -> dict[str, list[list[float]]]:
    """Picture's stem → rows of class, centre x, centre y, width, height."""
    return {
        path.stem: [[float(word) for word in line.split()] for line in path.read_text().splitlines()]
        for path in sorted((folder / "labels").iterdir())
    }


def test_layout_is_complete_when_no_picture_is_asked_for(tmp_path: Path) -> None:
    draw_sample(tmp_path, pictures=0, seed=0)
    assert sorted(digests(tmp_path)) == ["classes.txt", "notes.json"]
    assert not list((tmp_path / "images").iterdir())
    assert not list((tmp_path / "labels").iterdir())


def test_earlier_pictures_stay_when_fewer_or_more_are_drawn(sample: Path, tmp_path: Path) -> None:
    draw_sample(tmp_path, pictures=5, seed=0)
    assert digests(tmp_path).items() <= digests(sample).items()


def test_pictures_differ_when_the_seed_differs(sample: Path, tmp_path: Path) -> None:
    draw_sample(tmp_path, pictures=3, seed=1)
    assert digests(tmp_path / "images").items().isdisjoint(digests(sample / "images").items())


def test_layout_is_the_workshops_and_pictures_are_plain_small_and_different(sample: Path) -> None:
    assert (sample / "classes.txt").read_text() == "airplane\nhelicopter\n"
    notes = json.loads((sample / "notes.json").read_text())
    assert [entry["name"] for entry in notes["categories"]] == list(CLASSES)
    assert len(set(digests(sample / "images").values())) == PICTURES
    sizes = set()
    for path in (sample / "images").glob("*.jpg"):
        with Image.open(path) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert 200 <= min(picture.size) <= 360
            assert 320 <= max(picture.size) <= 480
            sizes.add(picture.width > picture.height)
    assert sizes == {True, False}, "landscape and portrait"
    assert set(labels(sample)) <= {path.stem for path in (sample / "images").glob("*.jpg")}


def test_both_classes_and_empty_pictures_are_there(sample: Path) -> None:
    rows = [row for rows in labels(sample).values() for row in rows]
    counts = [sum(row[0] == number for row in rows) for number in (0, 1)]
    assert min(counts) >= 0.3 * len(rows)
    assert sum(counts) == len(rows)
    assert 1 <= PICTURES - len(labels(sample)) <= PICTURES // 4


def test_boxes_lie_inside_the_picture_and_vary_in_size(sample: Path) -> None:
    boxes = np.array([row[1:] for rows in labels(sample).values() for row in rows])
    centre, size = boxes[:, :2], boxes[:, 2:]
    assert (size > 0).all()
    assert (centre - size / 2 >= -1e-6).all()
    assert (centre + size / 2 <= 1 + 1e-6).all()
    longest = size.max(axis=1)
    assert longest.min() < 0.2, "small aircraft are there"
    assert longest.max() > 0.5, "and large ones"


def test_boxes_are_tight_and_written_as_drawn(sample: Path) -> None:
    for number, (stem, rows) in enumerate(sorted(labels(sample).items())[:10]):
        picture, placed = draw_picture(np.random.default_rng([0, int(stem.removeprefix("sample-"))]))
        assert len(placed) == len(rows), number
        for one, row in zip(placed, rows, strict=True):
            left, top, right, bottom = box_xyxy_px(one.shown)
            inside = one.shown[top:bottom, left:right]
            assert inside.sum() == one.shown.sum()
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            expected = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            scale = (picture.width, picture.height) * 2
            assert row == pytest.approx(
                [one.class_id, *(e / s for e, s in zip(expected, scale, strict=True))], abs=1e-6
            )


def test_box_is_zero_when_the_mask_is_empty() -> None:
    assert box_xyxy_px(np.zeros((4, 6), bool)) == (0, 0, 0, 0)


def test_nothing_is_placed_when_land_hides_everything() -> None:
    random, weather = np.random.default_rng(0), WEATHERS[0][0]
    picture = sky(random, (320, 240), weather)
    assert add_aircraft(random, picture, [], np.ones((240, 320), bool), weather, 1) == (picture, [])


@pytest.mark.parametrize("family", [family for family, _ in AIRPLANES + HELICOPTERS])
@pytest.mark.parametrize("elevation", [-1.5, 0.0, 0.6, 1.5])
def test_every_family_renders_at_the_asked_size_from_every_side(family: object, elevation: float) -> None:
    assert callable(family)
    layer = render(family(np.random.default_rng(3)), rotation(0.7, 0.0, 0.1, elevation), 60, 0.5)
    left, top, right, bottom = layer.getchannel("A").getbbox() or (0, 0, 0, 0)
    assert max(right - left, bottom - top) == pytest.approx(60, abs=2)
    assert min(right - left, bottom - top) > 5
