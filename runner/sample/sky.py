"""Backgrounds of the sample dataset: skies, terrain, and distractors that are not aircraft."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Random = np.random.Generator
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weather:
    """Kind of sky: colours of zenith, horizon, clouds and ground, and amounts of clouds, light and stars."""

    above: Colour
    horizon: Colour
    cloud: Colour
    ground: Colour
    cloudiness: float
    light: float  # 0-1: ambient light on aircraft; the less, the more they are silhouettes
    stars: int = 0


WEATHERS: tuple[tuple[Weather, float], ...] = (
    (Weather((52, 112, 190), (170, 205, 235), (250, 250, 252), (84, 110, 62), 0.08, 0.62), 0.18),  # clear
    (Weather((70, 130, 205), (190, 215, 235), (248, 248, 250), (92, 118, 70), 0.5, 0.6), 0.22),  # fair-weather clouds
    (Weather((150, 158, 168), (205, 208, 210), (232, 234, 236), (80, 92, 74), 0.9, 0.5), 0.17),  # overcast
    (Weather((70, 78, 92), (140, 146, 152), (52, 58, 70), (48, 56, 46), 0.75, 0.45), 0.1),  # storm
    (Weather((62, 66, 120), (250, 165, 95), (228, 132, 112), (34, 30, 36), 0.4, 0.22), 0.15),  # sunset
    (Weather((8, 10, 26), (36, 40, 70), (40, 44, 62), (6, 8, 12), 0.25, 0.3, stars=140), 0.08),  # night
    (Weather((205, 205, 196), (226, 220, 206), (214, 212, 204), (160, 158, 146), 0.3, 0.5), 0.1),  # haze
)


def smooth_noise(random: Random, size: tuple[int, int], cell_px: int) -> Floats:
    """Return (H, W) smooth noise, 0-1: octaves of random grids, upscaled."""
    width, height = size
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        step = max(3, cell_px >> octave)
        grid = random.random((height // step + 2, width // step + 2), dtype=np.float32)
        layer = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(layer, np.float32) * 0.5**octave
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6), np.float32)


def pick_weather(random: Random) -> Weather:
    """Return a random weather, by its share."""
    weathers, shares = zip(*WEATHERS, strict=True)
    weather: Weather = weathers[int(random.choice(len(weathers), p=shares))]
    return weather


def sky(random: Random, size: tuple[int, int], weather: Weather) -> Image.Image:
    """Draw a gradient from zenith to horizon, randomly tinted, with the weather's clouds."""
    width, height = size
    tint = random.uniform(-14, 14, 3)
    depth = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** random.uniform(0.7, 1.6)
    pixels = np.array(weather.above) * (1 - depth) + np.array(weather.horizon) * depth + tint
    pixels = np.broadcast_to(pixels, (height, width, 3))
    cells = random.integers(24, 130)
    noise = smooth_noise(random, (width, height), int(cells))
    cover = weather.cloudiness * random.uniform(0.7, 1.2)
    edge = random.uniform(0.15, 0.45)
    veil = np.clip((noise - (1 - cover)) / edge, 0, 1)[..., None]
    shade = 0.78 + 0.22 * np.pad(noise, ((6, 0), (0, 0)), mode="edge")[:height, :, None]  # lit from above
    pixels = pixels * (1 - 0.92 * veil) + np.array(weather.cloud) * shade * 0.92 * veil
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if weather.stars:
        draw = ImageDraw.Draw(picture)
        for x, y, glow in random.random((weather.stars, 3)):
            draw.point((x * width, y * height), fill=(round(90 + 150 * glow),) * 3)
    return picture


def disc_of_light(random: Random, picture: Image.Image, weather: Weather) -> None:
    """Draw the sun with its glare, or the moon."""
    width, height = picture.size
    x, y, radius = random.uniform(0, width), random.uniform(0, 0.7 * height), random.uniform(6, 16)
    glow = Image.new("L", picture.size)
    reach = 3 if not weather.stars else 1
    ImageDraw.Draw(glow).ellipse(
        (x - reach * radius, y - reach * radius, x + reach * radius, y + reach * radius), fill=150
    )
    glow = glow.filter(ImageFilter.GaussianBlur(reach * radius / 2))
    ImageDraw.Draw(glow).ellipse((x - radius, y - radius, x + radius, y + radius), fill=250)
    picture.paste((255, 246, 222), mask=glow)


def contrail(random: Random, picture: Image.Image, weather: Weather) -> None:
    """Draw one old, wide contrail without an aircraft."""
    width, height = picture.size
    x, y, angle = random.uniform(0, width), random.uniform(0, 0.7 * height), random.uniform(0, pi)
    reach = random.uniform(0.3, 1.2) * width
    mask = Image.new("L", picture.size)
    ends = (x, y, x + reach * cos(angle), y + reach * sin(angle))
    ImageDraw.Draw(mask).line(ends, fill=int(random.integers(90, 200)), width=int(random.integers(2, 7)))
    picture.paste(weather.cloud, mask=mask.filter(ImageFilter.GaussianBlur(random.uniform(0.8, 2.5))))


def birds(random: Random, picture: Image.Image, weather: Weather) -> None:
    """Draw a loose flock of dark birds."""
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    x, y = random.uniform(0.1, 0.9) * width, random.uniform(0.1, 0.7) * height
    for _ in range(int(random.integers(1, 8))):
        cx, cy = x + random.normal(0, 0.1) * width, y + random.normal(0, 0.08) * height
        span, lift, tilt = random.uniform(3, 13), random.uniform(-0.4, 0.7), random.uniform(-0.3, 0.3)
        wings = [(cx - span, cy - span * (lift + tilt)), (cx - span / 2, cy - span * 0.45), (cx, cy)]
        wings += [(cx + span / 2, cy - span * 0.45), (cx + span, cy - span * (lift - tilt))]
        shade = int(20 + 40 * weather.light)
        draw.line(wings, fill=(shade, shade, shade + 6), width=max(1, round(span / 6)), joint="curve")
        draw.ellipse((cx - span / 5, cy - span / 7, cx + span / 3, cy + span / 7), fill=(shade, shade, shade + 6))


def balloon(random: Random, picture: Image.Image, weather: Weather) -> None:
    """Draw a striped hot-air balloon with its basket."""
    width, height = picture.size
    radius = random.uniform(6, 0.1 * width)
    x, y = random.uniform(0, width), random.uniform(0.1, 0.6) * height
    draw = ImageDraw.Draw(picture)
    paints = (random.uniform(60, 240, (2, 3)) * (0.35 + weather.light)).clip(0, 255).astype(int)
    for k, reach in enumerate((1.0, 0.66, 0.33)):
        red, green, blue = (int(part) for part in paints[k % 2])
        draw.ellipse((x - radius * reach, y - radius, x + radius * reach, y + 1.15 * radius), fill=(red, green, blue))
    basket = (x - 0.16 * radius, y + 1.5 * radius, x + 0.16 * radius, y + 1.75 * radius)
    for side in (-1, 1):
        draw.line(
            (x + side * 0.4 * radius, y + 1.05 * radius, x + side * 0.14 * radius, y + 1.5 * radius), fill=(50, 40, 30)
        )
    draw.rectangle(basket, fill=(70, 50, 34))


def crane(random: Random, picture: Image.Image, weather: Weather) -> None:
    """Draw a tower crane: mast, jib with lattice, counterweight and hook."""
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    x, top, side = random.uniform(0.1, 0.9) * width, random.uniform(0.3, 0.7) * height, random.choice((-1, 1))
    jib, paint = random.uniform(0.15, 0.4) * width, (190, 140, 40) if weather.light > 0.4 else (24, 22, 24)
    draw.line((x, height, x, top - 8), fill=paint, width=3)
    draw.line((x - side * 0.3 * jib, top, x + side * jib, top), fill=paint, width=2)
    draw.line((x - side * 0.3 * jib, top, x, top - 8, x + side * 0.8 * jib, top), fill=paint)
    draw.rectangle(sorted_box(x - side * 0.3 * jib, top, x - side * 0.2 * jib, top + 7), fill=(90, 90, 92))
    hook = x + side * random.uniform(0.4, 0.9) * jib
    draw.line((hook, top, hook, top + random.uniform(6, 40)), fill=(40, 40, 40))


def sorted_box(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    """Return the rectangle with x1 <= x2 and y1 <= y2."""
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def wires(random: Random, picture: Image.Image, weather: Weather) -> None:
    """Draw a pole with cross-arms and sagging wires to the picture's edges."""
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    x, top = random.uniform(0.05, 0.95) * width, random.uniform(0.25, 0.65) * height
    paint = (58, 50, 44) if weather.light > 0.4 else (16, 15, 18)
    draw.line((x, height, x, top), fill=paint, width=int(random.integers(3, 6)))
    for level in (6, 18):
        draw.line((x - 12, top + level, x + 12, top + level), fill=paint, width=2)
        for edge in (0, width):
            middle = ((x + edge) / 2, top + level + 0.06 * abs(edge - x) + 4)
            draw.line((x, top + level, *middle, edge, top + level), fill=paint, joint="curve")


DISTRACTORS: tuple[tuple[Callable[[Random, Image.Image, Weather], None], float], ...] = (
    (disc_of_light, 0.14),
    (contrail, 0.16),
    (balloon, 0.08),
    (birds, 0.2),
    (crane, 0.08),
    (wires, 0.09),
)
"""What may be drawn behind the aircraft, and how often."""


def ridge(random: Random, width: int, roughness: int) -> Floats:
    """Return a height for every column, 0-1: hills when smooth, tree tops when rough."""
    return np.asarray(smooth_noise(random, (width, 4), roughness)[1])


def terrain(random: Random, size: tuple[int, int], weather: Weather) -> Image.Image:
    """Return the land at the bottom, RGBA: hills, woods, a town's roofs or the sea, in one or two layers."""
    width, height = size
    kind = str(random.choice(("hills", "woods", "town", "sea")))
    rise = random.uniform(0.06, 0.22) * height
    paint = np.array({"sea": (40, 84, 120), "town": (112, 108, 110)}.get(kind, weather.ground)) * (0.4 + weather.light)
    layer = np.zeros((height, width, 4), np.float32)
    rows = np.arange(height)[:, None]
    for distance in (0.45, 0.0) if kind != "sea" else (0.1,):
        if kind == "sea":
            top: Floats = np.full(width, height - rise, np.float32)
        elif kind == "town":
            blocks = np.repeat(random.random(width // 9 + 1, np.float32), 9)[:width]
            top = height - rise * (0.35 + 0.65 * blocks)
        else:
            top = height - rise * (0.35 + 0.65 * ridge(random, width, 160 if kind == "hills" else 26))
        colour = paint * (1 - distance) + np.array(weather.horizon) * distance
        inside = rows >= top - distance * rise
        layer[inside] = (*colour, 255)
    grain = smooth_noise(random, size, 20)[..., None] * 44 - 22
    layer[..., :3] += grain
    return Image.fromarray(layer.clip(0, 255).astype(np.uint8))
