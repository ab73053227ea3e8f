"""Shapes of the sample's aircraft: kinds of airplanes and helicopters, built of flat plates and round hulls.

Body axes: x forward, y left, z up. Lengths are relative; an aircraft is about 2 long.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Random = np.random.Generator
Point = tuple[float, float, float]
Points = NDArray[np.float64]
PLATE = 0.014  # half the thickness of wings and blades, so that they do not vanish when seen edge-on


@dataclass(frozen=True)
class Solid:
    """Flat plate, or the round hull through a row of balls.

    points: (N, 4), x, y, z and the radius of the ball, or half the thickness of the plate.
    """

    paint: str
    points: Points
    plate: bool = True


Shape = list[Solid]


def plate(paint: str, *outline: Point) -> Solid:
    """Build a flat plate of its corners."""
    return Solid(paint, np.array([(*corner, PLATE) for corner in outline]))


def hull(paint: str, *balls: Point, y: float = 0.0) -> Solid:
    """Build a round hull of balls (x, z, radius), nose to tail."""
    return Solid(paint, np.array([(x, y, z, radius) for x, z, radius in balls]), plate=False)


def pair(*solids: Solid) -> Shape:
    """Return the solids and their mirror images on the other side."""
    return [*solids, *(replace(solid, points=solid.points * (1, -1, 1, 1)) for solid in solids)]


def wing(paint: str, x: float, z: float, chord: float, span: float, sweep: float, tip_chord: float) -> Shape:
    """Build both wings; x is the leading edge's at the hull."""
    tip = [(x - sweep, span, z + 0.04), (x - sweep - tip_chord, span, z + 0.04)]
    return pair(plate(paint, (x, 0, z), *tip, (x - chord, 0, z)))


def fin(x: float, z: float, chord: float, height: float, sweep: float) -> Solid:
    """Build an upright tail fin that leans back by `sweep`."""
    tip = [(x - sweep, 0, z + height), (x - sweep - 0.5 * chord, 0, z + height)]
    return plate("trim", (x, 0, z), *tip, (x - chord, 0, z))


def rotor(x: float, z: float, radius: float, axes: str, blades: int) -> Shape:
    """Build a propeller or rotor as a blurred disc and as blades; `axes` are the two that it turns through."""
    outline = np.tile((x, 0.0, z), (24, 1))
    angles = np.arange(24) * np.pi / 12 + 0.3
    outline[:, ["xyz".index(axis) for axis in axes]] += radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tips = outline[:: 24 // blades].tolist()
    return [plate("blur", *outline.tolist()), *(plate("blade", (x, 0, z), (a, b, c)) for a, b, c in tips)]


AIRLINER: Shape = [
    hull("hull", (0.97, -0.03, 0.02), (0.82, 0, 0.1), (-0.45, 0, 0.1), (-1, 0.06, 0.02)),
    hull("glass", (0.9, 0.04, 0.03), (0.84, 0.06, 0.03)),
    *wing("wing", 0.22, -0.05, 0.36, 0.85, 0.5, 0.1),
    *pair(hull("wing", (0.16, -0.13, 0.055), (-0.06, -0.13, 0.04), y=0.3)),
    fin(-0.68, 0.05, 0.27, 0.33, 0.2),
    *wing("trim", -0.76, 0.06, 0.18, 0.34, 0.16, 0.07),
]
FIGHTER: Shape = [
    hull("hull", (1, 0, 0.01), (0.6, 0, 0.06), (0.1, 0, 0.1), (-0.85, 0, 0.08)),
    hull("glass", (0.6, 0.06, 0.02), (0.42, 0.09, 0.05), (0.2, 0.08, 0.02)),
    *wing("wing", 0.3, 0, 0.95, 0.55, 0.65, 0.2),
    fin(-0.42, 0.06, 0.42, 0.32, 0.25),
]
PROPELLER_PLANE: Shape = [
    hull("hull", (0.66, 0, 0.09), (0.2, 0.02, 0.14), (-0.15, 0.03, 0.11), (-0.82, 0.06, 0.03)),
    hull("glass", (0.32, 0.11, 0.04), (0.12, 0.14, 0.06), (-0.08, 0.12, 0.04)),
    *wing("wing", 0.3, 0.17, 0.28, 0.92, 0.03, 0.2),
    *wing("trim", -0.62, 0.07, 0.2, 0.36, 0.05, 0.14),
    fin(-0.58, 0.06, 0.26, 0.28, 0.14),
    *pair(plate("dark", (0.12, 0.1, -0.1), (0.1, 0.16, -0.22)), hull("dark", (0.1, -0.24, 0.05), y=0.16)),
    *rotor(0.77, 0, 0.24, "yz", 2),
]
GLIDER: Shape = [
    hull("hull", (0.62, 0, 0.02), (0.4, 0, 0.08), (0.1, 0.01, 0.08), (-0.25, 0.03, 0.035), (-0.8, 0.04, 0.025)),
    hull("glass", (0.48, 0.05, 0.02), (0.32, 0.06, 0.05), (0.14, 0.06, 0.03)),
    *wing("wing", 0.15, 0.06, 0.18, 1.15, 0.06, 0.07),
    fin(-0.58, 0.04, 0.2, 0.24, 0.08),
    *wing("trim", -0.64, 0.27, 0.13, 0.26, 0.04, 0.08),
]
LIGHT_HELICOPTER: Shape = [
    hull("trim", (-0.2, 0.06, 0.06), (-1.05, 0.1, 0.025)),
    fin(-0.93, 0.08, 0.16, 0.22, 0.12),
    hull("hull", (0.34, -0.03, 0.15), (0.1, 0, 0.19), (-0.12, 0.02, 0.15), (-0.32, 0.06, 0.06)),
    hull("glass", (0.42, -0.02, 0.1), (0.3, 0.03, 0.12)),
    *pair(*(plate("dark", (x, 0.1, -0.1), (x, 0.2, -0.34)) for x in (0.22, -0.12))),
    *pair(hull("dark", (0.46, -0.32, 0.015), (0.38, -0.35, 0.02), (-0.3, -0.35, 0.02), y=0.2)),
    *rotor(-1.05, 0.2, 0.17, "xz", 2),
    hull("wing", (0.02, 0.33, 0.03), (0.02, 0.19, 0.035)),
    *rotor(0.02, 0.33, 0.95, "xy", 3),
]
TRANSPORT_HELICOPTER: Shape = [
    hull("hull", (-0.3, 0.08, 0.1), (-1.1, 0.14, 0.035)),
    fin(-0.96, 0.12, 0.2, 0.25, 0.14),
    hull("hull", (0.58, -0.06, 0.1), (0.4, 0, 0.18), (-0.25, 0, 0.18), (-0.5, 0.07, 0.07)),
    hull("glass", (0.6, 0.01, 0.06), (0.46, 0.05, 0.08)),
    hull("trim", (0.26, 0.2, 0.05), (-0.25, 0.19, 0.05)),
    *pair(hull("dark", (0.3, -0.22, 0.05), y=0.12), hull("dark", (-0.2, -0.22, 0.05), y=0.16)),
    *rotor(-1.1, 0.3, 0.19, "xz", 4),
    hull("wing", (0.02, 0.38, 0.03), (0.02, 0.24, 0.035)),
    *rotor(0.02, 0.38, 1.0, "xy", 4),
]
TANDEM_HELICOPTER: Shape = [
    hull("trim", (-0.6, 0.1, 0.12), (-0.7, 0.42, 0.09), (-0.7, 0.55, 0.03)),
    hull("hull", (0.76, -0.05, 0.11), (0.55, 0, 0.17), (-0.6, 0, 0.17), (-0.85, 0.08, 0.09)),
    hull("trim", (0.6, 0.16, 0.09), (0.56, 0.34, 0.03)),
    hull("glass", (0.8, 0, 0.06), (0.68, 0.05, 0.08)),
    *rotor(0.56, 0.36, 0.66, "xy", 3),
    *rotor(-0.7, 0.58, 0.66, "xy", 3),
]
KINDS: dict[str, tuple[Shape, ...]] = {
    "airplane": (AIRLINER, AIRLINER, PROPELLER_PLANE, FIGHTER, GLIDER),
    "helicopter": (LIGHT_HELICOPTER, LIGHT_HELICOPTER, TRANSPORT_HELICOPTER, TANDEM_HELICOPTER),
}


def pick_shape(random: Random, name: str) -> Shape:
    """Return an aircraft of the class: a random kind, stretched, its rotors blurred, sharp, or both."""
    kind = KINDS[name][int(random.integers(len(KINDS[name])))]
    stretch = np.array([*random.uniform((0.9, 0.85, 0.85), (1.1, 1.15, 1.15)), random.uniform(0.85, 1.15)])
    missing = (None, "blur", "blade")[int(random.choice(3, p=(0.4, 0.25, 0.35)))]
    return [replace(solid, points=solid.points * stretch) for solid in kind if solid.paint != missing]
