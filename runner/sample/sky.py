"""Backgrounds of the sample dataset: gradient skies with clouds of noise, birds and hills."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from runner.sample.shapes import Random
from runner.sample.silhouettes import Colour

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weather:
    """Kind of sky: colours of zenith, horizon, clouds and ground."""

    above: Colour
    horizon: Colour
    cloud: Colour
    ground: Colour
    cloudiness: float  # 0-1
    light: float  # 0-1, on aircraft; the less, the more they are silhouettes


WEATHERS = (
    Weather((52, 112, 190), (170, 205, 235), (250, 250, 252), (84, 110, 62), 0.08, 1.0),  # clear
    Weather((70, 130, 205), (190, 215, 235), (248, 248, 250), (92, 118, 70), 0.5, 1.0),  # fair-weather clouds
    Weather((150, 158, 168), (205, 208, 210), (232, 234, 236), (80, 92, 74), 0.9, 0.85),  # overcast
    Weather((92, 100, 114), (150, 156, 162), (70, 76, 90), (48, 56, 46), 0.75, 0.8),  # storm
    Weather((62, 66, 120), (250, 165, 95), (228, 132, 112), (34, 30, 36), 0.4, 0.55),  # sunset
    Weather((58, 66, 112), (124, 120, 158), (92, 92, 128), (24, 26, 34), 0.25, 0.7),  # dusk
)


def smooth_noise(random: Random, size: tuple[int, int], cell_px: int) -> Floats:
    """Return (H, W) smooth noise, 0-1: octaves of random grids, upscaled."""
    width, height = size
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        step = max(3, cell_px >> octave)
        grid = random.random((height // step + 2, width // step + 2), dtype=np.float32)
        total += np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)) * 0.5**octave
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6), np.float32)


def sky(random: Random, size: tuple[int, int], weather: Weather) -> Image.Image:
    """Draw a gradient from zenith to horizon, randomly tinted, with the weather's clouds, perhaps birds."""
    depth = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None] ** random.uniform(0.7, 1.6)
    pixels = np.array(weather.above) * (1 - depth) + np.array(weather.horizon) * depth + random.uniform(-14, 14, 3)
    noise = smooth_noise(random, size, int(random.integers(24, 130)))[..., None]
    cover = weather.cloudiness * random.uniform(0.7, 1.2)
    veil = 0.92 * np.clip((noise - (1 - cover)) / random.uniform(0.15, 0.45), 0, 1)
    pixels = pixels * (1 - veil) + np.array(weather.cloud) * (0.78 + 0.22 * noise) * veil
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if random.random() < 0.2:
        draw_birds(random, picture, weather)
    return picture


def draw_birds(random: Random, picture: Image.Image, weather: Weather) -> None:
    """Draw a loose flock of dark birds: what flies and is no aircraft."""
    draw, shade = ImageDraw.Draw(picture), int(20 + 25 * weather.light)
    middle = random.uniform(0.1, 0.8, 2) * picture.size
    for x, y in middle + random.normal(0, 0.09, (int(random.integers(1, 8)), 2)) * picture.size:
        span, lift = random.uniform(3, 11), random.uniform(-0.4, 0.7)
        wings = [(x - span, y - span * lift), (x - span / 2, y - span * 0.45), (x, y)]
        wings += [(x + span / 2, y - span * 0.45), (x + span, y - span * lift)]
        draw.line(wings, fill=(shade, shade, shade + 6), width=max(1, round(span / 5)), joint="curve")


def hills(random: Random, size: tuple[int, int], weather: Weather) -> Image.Image:
    """Return RGBA hills at the bottom, in two layers, the far one paler."""
    width, height = size
    layer = np.zeros((height, width, 4), np.float32)
    rise, rough = random.uniform(0.06, 0.22) * height, int(random.choice((160, 26)))
    for distance in (0.45, 0.0):
        top = height - rise * (0.35 + distance + 0.65 * smooth_noise(random, (width, 4), rough)[1])
        colour = np.array(weather.ground) * (1 - distance) + np.array(weather.horizon) * distance
        layer[np.arange(height)[:, None] >= top] = (*colour, 255)
    layer[..., :3] += smooth_noise(random, size, 20)[..., None] * 44 - 22
    return Image.fromarray(layer.clip(0, 255).astype(np.uint8))
