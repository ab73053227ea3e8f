"""Silhouettes of the sample's aircraft: turned, painted, shaded, and drawn at a size in pixels."""

from math import cos, radians, sin

import numpy as np
from PIL import Image, ImageDraw

from runner.sample.shapes import Points, Random, Shape, Solid

Colour = tuple[int, int, int]

SUPERSAMPLING = 3
LIGHT_PAINT: tuple[Colour, ...] = ((240, 242, 245), (226, 228, 224), (205, 212, 220), (245, 235, 210))
BOLD_PAINT: tuple[Colour, ...] = ((190, 40, 35), (30, 70, 150), (235, 180, 40), (30, 110, 70), (240, 120, 30))
DULL_PAINT: tuple[Colour, ...] = ((95, 105, 112), (80, 90, 65), (60, 64, 70), (140, 130, 105))
DARK: Colour = (44, 46, 52)


def pick_colours(random: Random) -> dict[str, Colour]:
    """Return the colour of every paint that shapes name."""
    paints = (LIGHT_PAINT, LIGHT_PAINT, BOLD_PAINT, DULL_PAINT)[int(random.integers(4))]
    hull = paints[int(random.integers(len(paints)))]
    trims = (hull, *BOLD_PAINT)
    trim = trims[int(random.integers(len(trims)))]
    return {"hull": hull, "wing": darker(hull), "trim": trim} | dict.fromkeys(("glass", "dark", "blade", "blur"), DARK)


def darker(colour: Colour) -> Colour:
    """Return the colour in shadow."""
    red, green, blue = (int(0.75 * part) for part in colour)
    return red, green, blue


def turned(points: Points, heading: float, elevation: float, roll: float) -> Points:
    """Return the points in the viewer's axes: right, away, up.

    Args:
        heading: degrees; 0 flies to the right.
        elevation: degrees; above 0: seen from below.
        roll: degrees, in the picture's plane.
    """
    points = points.copy()
    for axes, angle in (([0, 1], radians(heading)), ([1, 2], radians(elevation)), ([0, 2], radians(roll))):
        points[:, axes] = points[:, axes] @ np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
    return points


def silhouette(
    shape: Shape, angles: tuple[float, float, float], longest_px: float, colours: dict[str, Colour], light: float
) -> Image.Image:
    """Draw a shape; return it as RGBA with a small margin.

    Args:
        angles: heading, elevation and roll for `turned`.
        longest_px: the longer side of the shape's box.
        light: 0-1; 0 is black.
    """
    views = [turned(solid.points, *angles) * (1, 1, -1, 1) for solid in shape]
    low = np.min([(view[:, [0, 2]] - view[:, 3:]).min(axis=0) for view in views], axis=0)
    high = np.max([(view[:, [0, 2]] + view[:, 3:]).max(axis=0) for view in views], axis=0)
    scale = longest_px * SUPERSAMPLING / float((high - low).max())
    width, height = (int(side * scale) // SUPERSAMPLING + 3 for side in high - low)
    layer = Image.new("RGBA", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    # Far solids first, blurred discs over all.
    for i in sorted(range(len(shape)), key=lambda i: (shape[i].paint == "blur", -views[i][:, 1].mean())):
        spots = (views[i][:, [0, 2]] - low) * scale + SUPERSAMPLING
        draw_solid(layer, shape[i], spots, views[i][:, 3] * scale, colours[shape[i].paint])
    pixels = np.asarray(layer.resize((width, height), Image.Resampling.BOX)).copy()
    shade = light * np.linspace(1.1, 0.7, height)[:, None, None]  # lit from above
    pixels[..., :3] = (pixels[..., :3] * shade).clip(0, 255)
    return Image.fromarray(pixels)


def draw_solid(layer: Image.Image, solid: Solid, spots: Points, radii: Points, colour: Colour) -> None:
    """Draw a solid at its (N, 2) pixels; a hull's belly is darker than its back."""
    draw = ImageDraw.Draw(layer)
    if solid.paint == "blur":
        blurred = Image.new("RGBA", layer.size)
        ImageDraw.Draw(blurred).polygon(spots.ravel().tolist(), fill=(*colour, 100))
        layer.alpha_composite(blurred)
    elif solid.plate:
        draw.polygon(spots.ravel().tolist(), fill=colour)
        draw_row(draw, np.concatenate([spots, spots[:1]]), np.append(radii, radii[:1]), colour)
    else:
        draw_row(draw, spots, radii, darker(colour))
        draw_row(draw, spots - 0.25 * np.stack([0 * radii, radii], axis=1), 0.75 * radii, colour)


def draw_row(draw: ImageDraw.ImageDraw, spots: Points, radii: Points, colour: Colour) -> None:
    """Draw discs at the spots and the bands between neighbours."""
    for spot, radius in zip(spots, radii, strict=True):
        draw.circle(spot.tolist(), radius, fill=colour)
    for start, end, first, last in zip(spots, spots[1:], radii, radii[1:], strict=False):
        across = np.array([start[1] - end[1], end[0] - start[0]]) / max(float(np.hypot(*(end - start))), 1e-9)
        band = [start + across * first, end + across * last, end - across * last, start - across * first]
        draw.polygon(np.concatenate(band).tolist(), fill=colour)
