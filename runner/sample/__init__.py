"""Synthetic sample dataset: airplanes and helicopters before varied skies, for a demo without a download.

Picture i depends only on (seed, i), so asking for more pictures never changes earlier ones.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from runner.sample.shapes import KINDS, Random, pick_shape
from runner.sample.silhouettes import pick_colours, silhouette
from runner.sample.sky import WEATHERS, Weather, hills, sky

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

CLASSES = tuple(KINDS)
AIRCRAFT_SHARES = (0.1, 0.6, 0.2, 0.07, 0.03)  # of pictures with 0, 1, 2, 3, 4 aircraft
VISIBLE_ALPHA = 48  # of 255: excludes the faint rim of a blurred rotor
MIN_SHOWN = 0.7  # of an aircraft's pixels: the rest may be hidden or outside the picture
MIN_CONTRAST = 20.0  # of 255: an aircraft with less is hardly visible, so it is not drawn
NOTES = {
    "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
    "info": {"version": "1.0", "contributor": "Flywheel's drawn sample"},
}


@dataclass(frozen=True)
class Placed:
    """Aircraft on a picture: its class, and the tight box of its visible pixels, right and bottom exclusive."""

    class_id: int
    box_xyxy_px: Box


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
    for number in tqdm(range(pictures), desc="drawing", unit="pictures", disable=None):
        random = np.random.default_rng([seed, number])
        picture, placed = draw_picture(random)
        name = f"sample-{number:05d}"
        picture.save(folder / "images" / f"{name}.jpg", quality=int(random.integers(45, 93)))
        if placed:
            (folder / "labels" / f"{name}.txt").write_text("".join(label_line(each, picture.size) for each in placed))


def draw_picture(random: Random) -> tuple[Image.Image, list[Placed]]:
    """Draw a picture of 320 x 240 to 480 x 360 pixels, 15 % of them portrait; return it with the aircraft on it."""
    width = int(random.integers(40, 61)) * 8
    height = int(width * random.choice((0.75, 0.667)))
    size = (height, width) if random.random() < 0.15 else (width, height)
    weather = WEATHERS[int(random.integers(len(WEATHERS)))]
    picture = sky(random, size, weather)
    land = hills(random, size, weather) if random.random() < 0.4 else Image.new("RGBA", size)
    if random.random() < 0.5:
        picture.paste(land, mask=land)
        land = Image.new("RGBA", size)
    placed: list[Placed] = []
    count = int(random.choice(len(AIRCRAFT_SHARES), p=AIRCRAFT_SHARES))
    for _ in range(count):
        picture = add_aircraft(random, picture, placed, np.asarray(land)[..., 3] > 0, weather, count)
    picture.paste(land, mask=land)
    return photographed(random, picture), placed


def add_aircraft(
    random: Random, picture: Image.Image, placed: list[Placed], hidden: Mask, weather: Weather, count: int
) -> Image.Image:
    """Return the picture with one more aircraft beside the others; after eight bad placements, leave it out.

    Args:
        placed: the aircraft on the picture; the new one is appended.
        hidden: (H, W), pixels that the land will cover.
        count: aircraft on the picture; the more, the smaller each.
    """
    before = np.asarray(picture, np.int16)
    for _ in range(8):
        class_id = int(random.integers(len(CLASSES)))
        layer, corner = aircraft_layer(random, picture, CLASSES[class_id], weather, count)
        candidate, alpha = picture.copy(), Image.new("L", picture.size)
        candidate.paste(layer, corner, layer)
        alpha.paste(layer.getchannel("A"), corner)
        shown = (np.asarray(alpha) >= VISIBLE_ALPHA) & ~hidden
        whole_px = (np.asarray(layer.getchannel("A")) >= VISIBLE_ALPHA).sum()
        box = Image.fromarray(shown).getbbox()  # right and bottom exclusive
        if box is None or shown.sum() < MIN_SHOWN * whole_px:
            continue
        contrast = np.abs(np.asarray(candidate, np.int16) - before)[shown].mean()
        if contrast >= MIN_CONTRAST and not any(overlap(box, other.box_xyxy_px) for other in placed):
            placed.append(Placed(class_id, box))
            return candidate
    return picture


def aircraft_layer(
    random: Random, picture: Image.Image, name: str, weather: Weather, count: int
) -> tuple[Image.Image, tuple[int, int]]:
    """Return an RGBA aircraft with the light and haze of its place, and its upper left corner in pixels."""
    heading = random.normal(0, 28) + 180 * random.integers(2)  # mostly side views, as in typical photos
    angles = (heading, random.uniform(-30, 45), random.normal(0, 9))
    longest = picture.width * random.triangular(0.25, 0.65, 0.9) / count**0.25
    light = 0.15 if random.random() < 0.1 else weather.light * random.uniform(0.8, 1.1)
    layer = silhouette(pick_shape(random, name), angles, longest, pick_colours(random), light)
    space = np.array(picture.size) - layer.size
    x, y = (random.uniform(-0.15, 0.15, 2) * layer.size + random.random(2) * space).astype(int).tolist()
    veil = Image.new("RGB", layer.size, weather.horizon)
    hazy = Image.blend(layer.convert("RGB"), veil, random.triangular(0, 0, 0.4))
    hazy.putalpha(layer.getchannel("A"))
    return hazy, (x, y)


def overlap(box: Box, other: Box) -> bool:
    """Whether two boxes share a pixel."""
    return max(box[0], other[0]) < min(box[2], other[2]) and max(box[1], other[1]) < min(box[3], other[3])


def label_line(aircraft: Placed, size: tuple[int, int]) -> str:
    """Return a YOLO label line: class, then the box's centre and size as fractions of the picture."""
    (left, top, right, bottom), (width, height) = aircraft.box_xyxy_px, size
    xywhn = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    return " ".join([str(aircraft.class_id), *(f"{share:.6f}" for share in xywhn)]) + "\n"


def photographed(random: Random, picture: Image.Image) -> Image.Image:
    """Return the picture with the slight blur and noise of a camera."""
    if random.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.1)))
    noise = random.normal(0, random.uniform(0.5, 7), (picture.height, picture.width, 1)).astype(np.float32)
    pixels = np.asarray(picture, np.float32) * random.uniform(0.85, 1.12) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
