"""Synthetic sample dataset: airplanes and helicopters before varied skies, for a demo without a download.

Picture i depends only on (seed, i), so asking for more pictures never changes earlier ones.
"""

import json
from dataclasses import dataclass, replace
from math import radians
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from runner.sample.airplanes import airplane
from runner.sample.helicopters import helicopter
from runner.sample.mesh import render, rotation
from runner.sample.sky import DISTRACTORS, Weather, pick_weather, sky, terrain

Mask = NDArray[np.bool_]
Random = np.random.Generator

AIRCRAFT = {"airplane": airplane, "helicopter": helicopter}
CLASSES = tuple(AIRCRAFT)
AIRCRAFT_SHARES = (0.1, 0.6, 0.2, 0.07, 0.03)  # of pictures with 0, 1, 2, 3, 4 aircraft
VISIBLE_ALPHA = 48  # of 255: excludes the faint rim of a blurred rotor
MIN_SIDE_PX = 7
MIN_SHOWN = 0.7  # of an aircraft's pixels: the rest may be hidden or outside the picture
MAX_OVERLAP = 0.1  # of the smaller of two boxes
MIN_CONTRAST = 20.0  # of 255: an aircraft with less is hardly visible, so it is not drawn
NOTES = {
    "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
    "info": {"version": "1.0", "contributor": "Flywheel's drawn sample"},
}


@dataclass(frozen=True)
class Placed:
    """Aircraft on a picture: its class, its visible pixels, and its number of pixels when nothing hides it."""

    class_id: int
    shown: Mask
    whole_px: int


def draw_sample(folder: Path, *, pictures: int, seed: int) -> None:
    """Draw a dataset in the workshop's layout; the same bytes for the same seed.

    Writes `classes.txt`, `notes.json`, `images/*.jpg`, and `labels/*.txt` for the pictures that show an aircraft.

    Args:
        folder: an existing, empty folder.
        pictures: number of pictures; may be 0.
        seed: 0 or more.
    """
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (folder / "notes.json").write_text(json.dumps(NOTES, indent=2) + "\n")
    for number in range(pictures):
        random = np.random.default_rng([seed, number])
        picture, placed = draw_picture(random)
        name = f"sample-{number:05d}"
        picture.save(folder / "images" / f"{name}.jpg", quality=int(random.integers(45, 93)))
        if placed:
            lines = [label_line(aircraft) for aircraft in placed]
            (folder / "labels" / f"{name}.txt").write_text("".join(lines))


def draw_picture(random: Random) -> tuple[Image.Image, list[Placed]]:
    """Draw a picture; return it with the aircraft on it."""
    size = picture_size(random)
    weather = pick_weather(random)
    picture = sky(random, size, weather)
    for distractor, share in DISTRACTORS:
        if random.random() < share:
            distractor(random, picture, weather)
    land = terrain(random, size, weather) if random.random() < 0.45 else Image.new("RGBA", size)
    land_in_front = random.random() < 0.5
    if not land_in_front:
        picture.paste(land, mask=land)
        land = Image.new("RGBA", size)
    placed: list[Placed] = []
    count = int(random.choice(len(AIRCRAFT_SHARES), p=AIRCRAFT_SHARES))
    for _ in range(count):
        picture, placed = add_aircraft(random, picture, placed, np.asarray(land)[..., 3] > 0, weather, count)
    picture.paste(land, mask=land)
    return photographed(random, picture), placed


def picture_size(random: Random) -> tuple[int, int]:
    """Return (width, height) in pixels: 320 x 240 to 480 x 360, 15 % of them portrait."""
    width = int(random.integers(40, 61)) * 8
    height = int(width * random.choice((0.75, 0.75, 0.667)))
    return (height, width) if random.random() < 0.15 else (width, height)


def add_aircraft(
    random: Random, picture: Image.Image, placed: list[Placed], hidden: Mask, weather: Weather, count: int
) -> tuple[Image.Image, list[Placed]]:
    """Paste one more aircraft over the others; after four hardly visible placements, leave it out.

    Args:
        hidden: (H, W), pixels that the land will cover.
        count: aircraft on the picture; the more, the smaller each.
    """
    for _ in range(4):
        class_id = int(random.integers(len(CLASSES)))
        layer, corner = aircraft_layer(random, picture, CLASSES[class_id], weather, count)
        candidate, alpha = picture.copy(), Image.new("L", picture.size)
        candidate.paste(layer, corner, layer)
        alpha.paste(layer.getchannel("A"), corner)
        covered = np.asarray(alpha) >= VISIBLE_ALPHA
        whole_px = int((np.asarray(layer.getchannel("A")) >= VISIBLE_ALPHA).sum())
        everyone = [replace(other, shown=other.shown & ~covered) for other in placed]
        everyone.append(Placed(class_id, covered & ~hidden, whole_px))
        if (
            keeps_clear(everyone)
            and all(map(shows, everyone))
            and contrast(picture, candidate, everyone[-1].shown) >= MIN_CONTRAST
        ):
            return candidate, everyone
    return picture, placed


def aircraft_layer(
    random: Random, picture: Image.Image, name: str, weather: Weather, count: int
) -> tuple[Image.Image, tuple[int, int]]:
    """Return an RGBA aircraft with the light and haze of its place, and its upper left corner in pixels."""
    yaw, pitch, roll = heading(random), random.normal(0, 7), random.normal(0, 11 if name == "airplane" else 6)
    elevation = random.uniform(-15, 45) if random.random() < 0.9 else random.uniform(-80, 85)
    turn = rotation(*(radians(angle) for angle in (yaw, pitch, roll, elevation)))
    share = random.uniform(0.2, 0.4) if random.random() < 0.1 else random.uniform(0.4, 0.9)
    longest = picture.width * share / count**0.25
    silhouette = random.random() < 0.12
    ambient = 0.12 if silhouette else weather.light * random.uniform(0.7, 1.2)
    layer = render(AIRCRAFT[name](random), turn, longest, ambient)
    x, y = (
        int(random.uniform(-0.15 * side, space - 0.85 * side))
        for side, space in zip(layer.size, picture.size, strict=True)
    )
    middle = (
        min(max(x + layer.width // 2, 0), picture.width - 1),
        min(max(y + layer.height // 2, 0), picture.height - 1),
    )
    haze = random.uniform(0, 0.15) + (0.25 * random.random() if longest < 0.25 * picture.width else 0.0)
    veil = Image.new("RGB", layer.size, picture.getpixel(middle))
    hazy = Image.blend(layer.convert("RGB"), veil, haze)
    hazy.putalpha(layer.getchannel("A"))
    return hazy, (x, y)


def heading(random: Random) -> float:
    """Return a heading in degrees; 0 flies to the right, 180 to the left. Mostly side views, as in typical photos."""
    if random.random() < 0.25:
        return float(random.uniform(0, 360))
    return float(random.normal(0, 28) + 180 * random.integers(2))


def shows(aircraft: Placed) -> bool:
    """Whether enough of the aircraft is visible to be labelled."""
    left, top, right, bottom = box_xyxy_px(aircraft.shown)
    large = max(right - left, bottom - top) >= 2 * MIN_SIDE_PX and min(right - left, bottom - top) >= MIN_SIDE_PX // 2
    return large and aircraft.shown.sum() >= MIN_SHOWN * aircraft.whole_px


def keeps_clear(aircraft: list[Placed]) -> bool:
    """Whether the box of the last aircraft overlaps the others by at most MAX_OVERLAP."""
    *others, last = (box_xyxy_px(each.shown) for each in aircraft)
    for other in others:
        width = min(other[2], last[2]) - max(other[0], last[0])
        height = min(other[3], last[3]) - max(other[1], last[1])
        smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (other, last))
        if width > 0 and height > 0 and width * height > MAX_OVERLAP * smaller:
            return False
    return True


def contrast(before: Image.Image, after: Image.Image, mask: Mask) -> float:
    """Return the mean change of the pixels under the mask, 0-255."""
    change = np.abs(np.asarray(after, np.int16) - np.asarray(before, np.int16))
    return float(change[mask].mean()) if mask.any() else 0.0


def box_xyxy_px(mask: Mask) -> tuple[int, int, int, int]:
    """Return the tight box around a mask, right and bottom exclusive; zeros for an empty mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def label_line(aircraft: Placed) -> str:
    """Return a YOLO label line: class, then the box's centre and size as fractions of the picture."""
    height, width = aircraft.shown.shape
    left, top, right, bottom = box_xyxy_px(aircraft.shown)
    centre_and_size = (
        (left + right) / 2 / width,
        (top + bottom) / 2 / height,
        (right - left) / width,
        (bottom - top) / height,
    )
    return " ".join([str(aircraft.class_id), *(f"{share:.6f}" for share in centre_and_size)]) + "\n"


def photographed(random: Random, picture: Image.Image) -> Image.Image:
    """Return the picture with the slight blur and noise of a camera."""
    if random.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.1)))
    noise = random.normal(0, random.uniform(0.5, 7), (picture.height, picture.width, 1)).astype(np.float32)
    pixels = np.asarray(picture, np.float32) * random.uniform(0.85, 1.12) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
