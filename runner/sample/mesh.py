"""Meshes of the sample's aircraft, and their rendering with one light.

Body axes: x forward, y left, z up. Lengths are relative; `render` scales the shape to a number of pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import cos, hypot, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Points = NDArray[np.float64]

SUPERSAMPLING = 4
LIGHT_FROM = (0.3, -0.45, 0.85)  # viewer's axes: right, towards the viewer is -y, up
SIDES = 12  # of a tube's circumference


@dataclass(frozen=True)
class Face:
    """Flat polygon.

    corners: (N, 3) body coordinates. alpha below 1 is a blurred disc, drawn after everything solid.
    """

    corners: Points
    colour: Colour
    alpha: float = 1.0


@dataclass(frozen=True)
class Ring:
    """Cross-section of a tube: position along x, half width, half height, height of its centre."""

    x: float
    half_width: float
    half_height: float
    z: float = 0.0


def tube(rings: Sequence[Ring], colours: Sequence[Colour], *, y: float = 0.0) -> list[Face]:
    """Build a tube through a row of rings, nose to tail.

    Args:
        colours: one for each twelfth of the circumference, from the left side over the top; shorter rows repeat.
        y: offset of the tube's axis from the aircraft's.
    """
    angles = [2 * pi * k / SIDES for k in range(SIDES + 1)]
    faces = []
    for front, back in pairwise(rings):
        for k in range(SIDES):
            corners = [
                (ring.x, y + ring.half_width * cos(angle), ring.z + ring.half_height * sin(angle))
                for ring, angle in (
                    (front, angles[k]),
                    (back, angles[k]),
                    (back, angles[k + 1]),
                    (front, angles[k + 1]),
                )
            ]
            faces.append(Face(np.array(corners), colours[k % len(colours)]))
    return faces


def slab(
    outline: Sequence[tuple[float, float, float]], thickness: tuple[float, float, float], colour: Colour
) -> list[Face]:
    """Build a flat plate with thickness, so that a wing is visible from the front."""
    middle = np.array(outline)
    half = np.array(thickness) / 2
    top, bottom = middle + half, middle - half
    edges = [Face(np.array([top[i - 1], top[i], bottom[i], bottom[i - 1]]), colour) for i in range(len(outline))]
    return [Face(top, colour), Face(bottom, colour), *edges]


def mirrored(faces: Sequence[Face]) -> list[Face]:
    """Return the faces and their mirror images on the other side of the aircraft."""
    return [*faces, *(replace(face, corners=face.corners * np.array([1.0, -1.0, 1.0])) for face in faces)]


def disc(centre: tuple[float, float, float], radius: float, normal: str, colour: Colour, alpha: float) -> Face:
    """Build a blurred rotor or propeller; `normal` is its axis of rotation: x, y or z."""
    turn = np.linspace(0, 2 * pi, 25)[:-1]
    flat = np.zeros((len(turn), 3))
    first, second = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}[normal]
    flat[:, first], flat[:, second] = radius * np.cos(turn), radius * np.sin(turn)
    return Face(flat + np.array(centre), colour, alpha)


def rotation(yaw: float, pitch: float, roll: float, elevation: float) -> Points:
    """Return the (3, 3) rotation from body to viewer axes; radians, elevation above 0: seen from below."""
    about_z = np.array([[cos(yaw), -sin(yaw), 0], [sin(yaw), cos(yaw), 0], [0, 0, 1]])
    about_y = np.array([[cos(pitch), 0, -sin(pitch)], [0, 1, 0], [sin(pitch), 0, cos(pitch)]])
    about_x = np.array([[1, 0, 0], [0, cos(roll), -sin(roll)], [0, sin(roll), cos(roll)]])
    tilt = np.array([[1, 0, 0], [0, cos(elevation), -sin(elevation)], [0, sin(elevation), cos(elevation)]])
    return np.asarray(tilt @ about_z @ about_y @ about_x)


def render(faces: Sequence[Face], turn: Points, longest_px: float, ambient: float) -> Image.Image:
    """Light, project and draw a shape; return it as RGBA, cropped with a small margin.

    Args:
        turn: (3, 3) from `rotation`.
        longest_px: the longer side of the shape's box on the picture.
        ambient: 0-1, light that reaches every face; the less, the more the shape is a silhouette.
    """
    turned = [face.corners @ turn.T for face in faces]
    flat = np.concatenate(turned)[:, [0, 2]] * np.array([1.0, -1.0])
    low, high = flat.min(axis=0), flat.max(axis=0)
    scale = longest_px * SUPERSAMPLING / float((high - low).max())
    margin = 2 * SUPERSAMPLING
    width, height = (int(np.ceil((side * scale + 2 * margin) / SUPERSAMPLING)) * SUPERSAMPLING for side in (high - low))
    layer = Image.new("RGBA", (width, height))
    # Painter's algorithm: far faces first (y points away from the viewer), blurred discs over all.
    order = sorted(range(len(faces)), key=lambda i: (faces[i].alpha < 1, -turned[i][:, 1].mean()))
    for i in order:
        outline = (turned[i][:, [0, 2]] * np.array([1.0, -1.0]) - low) * scale + margin
        colour = lit(faces[i].colour, turned[i], ambient)
        points = [(float(x), float(y)) for x, y in outline]
        if faces[i].alpha < 1:
            blurred = Image.new("RGBA", layer.size, (*colour, 0))
            ImageDraw.Draw(blurred).polygon(points, fill=(*colour, round(255 * faces[i].alpha)))
            layer.alpha_composite(blurred)
        else:
            ImageDraw.Draw(layer).polygon(points, fill=(*colour, 255))
    return layer.resize((width // SUPERSAMPLING, height // SUPERSAMPLING), Image.Resampling.BOX)


def lit(colour: Colour, corners: Points, ambient: float) -> Colour:
    """Return the shaded colour of a two-sided face under the one light."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners[:3].tolist()
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = hypot(nx, ny, nz) or 1.0
    towards = -1.0 if ny > 0 else 1.0
    diffuse = max(0.0, towards * (nx * LIGHT_FROM[0] + ny * LIGHT_FROM[1] + nz * LIGHT_FROM[2]) / length)
    strength = ambient + (1.05 - ambient) * diffuse
    red, green, blue = (min(255, round(part * strength)) for part in colour)
    return red, green, blue
