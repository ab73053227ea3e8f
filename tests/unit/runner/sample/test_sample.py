import hashlib
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.sample import CLASSES, Placed, add_aircraft, draw_sample, label_line
from runner.sample.shapes import KINDS, Shape
from runner.sample.silhouettes import pick_colours, silhouette
from runner.sample.sky import WEATHERS

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
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["classes.txt", "images", "labels", "notes.json"]


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
    assert longest.min() < 0.3, "small aircraft are there"
    assert longest.max() > 0.5, "and large ones"


def test_labels_are_apart(sample: Path) -> None:
    for rows in labels(sample).values():
        corners = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for _, x, y, w, h in rows]
        for i, (left, top, right, bottom) in enumerate(corners):
            for other in corners[:i]:
                apart = right <= other[0] + 1e-5 or other[2] <= left + 1e-5
                assert apart or bottom <= other[1] + 1e-5 or other[3] <= top + 1e-5


@pytest.mark.parametrize("hidden_rows", [0, 60])
def test_box_is_tight_around_what_is_shown(hidden_rows: int) -> None:
    plain, hidden = Image.new("RGB", (320, 240), (90, 150, 220)), np.zeros((240, 320), bool)
    hidden[240 - hidden_rows :] = True
    for seed in range(20):
        placed: list[Placed] = []
        picture = add_aircraft(np.random.default_rng(seed), plain, placed, hidden, WEATHERS[0], 1)
        for aircraft in placed:
            changed = np.any(np.asarray(picture) != np.asarray(plain), axis=2) & ~hidden
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            # The faint rims of blurred rotors and smooth edges are outside the box.
            assert aircraft.box_xyxy_px == pytest.approx((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), abs=2)


def test_label_is_centre_and_size_as_fractions() -> None:
    assert label_line(Placed(1, (32, 60, 96, 120)), (320, 240)) == "1 0.200000 0.375000 0.200000 0.250000\n"


def test_nothing_is_placed_when_land_hides_all_or_it_would_be_black_on_black(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, placed = Image.new("RGB", (320, 240)), list[Placed]()
    hidden, shown = np.ones((240, 320), bool), np.zeros((240, 320), bool)
    assert add_aircraft(np.random.default_rng(0), plain, placed, hidden, WEATHERS[0], 1) == plain
    monkeypatch.setattr("runner.sample.pick_colours", lambda random: defaultdict(lambda: (0, 0, 0)))
    black = replace(WEATHERS[0], horizon=(0, 0, 0))
    assert add_aircraft(np.random.default_rng(0), plain, placed, shown, black, 1) == plain
    assert placed == []


@pytest.mark.parametrize("shape", {id(shape): shape for kinds in KINDS.values() for shape in kinds}.values())
@pytest.mark.parametrize("angles", [(0, 0, 0), (40, 0, 8), (160, 45, -20), (0, -90, 0)])
def test_every_kind_is_drawn_at_the_asked_size_from_every_side(
    shape: Shape, angles: tuple[float, float, float]
) -> None:
    layer = silhouette(shape, angles, 60, pick_colours(np.random.default_rng(3)), 0.5)
    left, top, right, bottom = layer.getchannel("A").getbbox() or (0, 0, 0, 0)
    assert max(right - left, bottom - top) == pytest.approx(60, abs=2)
    assert min(right - left, bottom - top) > 5
