"""Helicopters of the sample dataset: three families with random proportions, paint and rotor."""

from collections.abc import Callable
from math import cos, pi, sin

from runner.sample.aircraft import BLADE, GLASS, METAL, Random, Shape, fin, hull_colours, livery, pick, wing
from runner.sample.mesh import Colour, Ring, disc, mirrored, slab, tube


def light_helicopter(random: Random) -> Shape:
    """Build a light helicopter: glass nose, round cabin, thin boom with a tail rotor, skids, two to four blades."""
    hull, trim = livery(random)
    fat = random.uniform(0.85, 1.15)
    rings = [
        Ring(0.42, 0.1 * fat, 0.09, -0.05),
        Ring(0.3, 0.18 * fat, 0.17),
        Ring(0.0, 0.19 * fat, 0.2),
        Ring(-0.25, 0.12, 0.14, 0.04),
        Ring(-0.36, 0.05, 0.05, 0.07),
    ]
    shape = tube(rings, hull_colours(hull, trim, belly=random.random() < 0.5))
    shape += tube(
        [Ring(0.52, 0.02, 0.02, -0.04), Ring(0.45, 0.1 * fat, 0.09, -0.02), Ring(0.28, 0.17 * fat, 0.16, 0.02)], [GLASS]
    )
    shape += tail_boom(random, trim, start=-0.3, end=random.uniform(-1.15, -0.95), z=0.07)
    shape += tube([Ring(0.08, 0.06, 0.03, 0.2), Ring(-0.2, 0.06, 0.05, 0.2)], [trim])
    shape += skids(0.21, pick(random, (BLADE, METAL)))
    return shape + main_rotor(random, 0.0, 0.34, random.uniform(0.9, 1.1), int(random.integers(2, 5)))


def transport_helicopter(random: Random) -> Shape:
    """Build a transport helicopter: long cabin with windows, engines on the roof, wheels in sponsons, 4 to 6 blades."""
    hull, trim = livery(random, military=random.random() < 0.5)
    rings = [
        Ring(0.68, 0.04, 0.05, -0.08),
        Ring(0.56, 0.14, 0.13, -0.03),
        Ring(0.35, 0.17, 0.19),
        Ring(-0.25, 0.17, 0.19),
        Ring(-0.5, 0.06, 0.08, 0.09),
    ]
    shape = tube(rings, hull_colours(hull, trim, belly=random.random() < 0.4))
    shape += tube([Ring(0.64, 0.06, 0.03, 0.0), Ring(0.5, 0.13, 0.1, 0.05), Ring(0.38, 0.12, 0.06, 0.1)], [GLASS])
    shape += mirrored(
        tube([Ring(0.28, 0.03, 0.04, 0.22), Ring(0.1, 0.07, 0.06, 0.22), Ring(-0.28, 0.05, 0.05, 0.2)], [trim], y=0.08)
    )
    shape += mirrored(
        tube(
            [Ring(0.0, 0.03, 0.03, -0.16), Ring(-0.08, 0.06, 0.05, -0.16), Ring(-0.25, 0.02, 0.02, -0.14)],
            [hull],
            y=0.19,
        )
    )
    shape += tail_boom(random, hull, start=-0.42, end=random.uniform(-1.2, -1.0), z=0.1)
    return shape + main_rotor(random, 0.02, 0.38, random.uniform(0.95, 1.15), int(random.integers(4, 7)))


def tandem_helicopter(random: Random) -> Shape:
    """Build a tandem helicopter: long box with a rotor at each end, the rear one on a pylon."""
    hull, trim = livery(random, military=random.random() < 0.8)
    rings = [
        Ring(0.85, 0.05, 0.06, -0.08),
        Ring(0.72, 0.14, 0.14, -0.02),
        Ring(0.5, 0.16, 0.17),
        Ring(-0.6, 0.16, 0.17),
        Ring(-0.85, 0.1, 0.06, 0.1),
    ]
    shape = tube(rings, hull_colours(hull, trim, belly=False))
    shape += tube([Ring(0.82, 0.07, 0.03, 0.0), Ring(0.68, 0.13, 0.08, 0.05), Ring(0.56, 0.1, 0.04, 0.11)], [GLASS])
    shape += tube([Ring(0.72, 0.04, 0.1, 0.16), Ring(0.5, 0.05, 0.1, 0.18), Ring(0.3, 0.02, 0.02, 0.16)], [hull])
    shape += tube([Ring(-0.45, 0.03, 0.06, 0.16), Ring(-0.6, 0.07, 0.2, 0.26), Ring(-0.88, 0.05, 0.16, 0.28)], [trim])
    radius = random.uniform(0.62, 0.75)
    return shape + main_rotor(random, 0.58, 0.34, radius, 3) + main_rotor(random, -0.68, 0.56, radius, 3)


def tail_boom(random: Random, colour: Colour, *, start: float, end: float, z: float) -> Shape:
    """Build the boom with its fin, stabiliser and tail rotor."""
    shape = tube([Ring(start, 0.055, 0.06, z), Ring(end, 0.025, 0.03, z + 0.03)], [colour])
    shape += fin(end + 0.12, z, 0.16, random.uniform(0.16, 0.26), 0.12, colour)
    shape += mirrored(wing((end + 0.3, 0.02, z + 0.02), 0.1, (end + 0.28, 0.17, z + 0.02), 0.08, colour))
    return shape + rotor(random, (end - 0.02, 0.05, z + 0.12), 0.17, "y", 2)


def main_rotor(random: Random, x: float, z: float, radius: float, blades: int) -> Shape:
    """Build the main rotor on its mast."""
    mast = tube([Ring(x + 0.02, 0.02, 0.08, z - 0.07), Ring(x - 0.02, 0.02, 0.08, z - 0.07)], [METAL])
    return mast + rotor(random, (x, 0.0, z), radius, "z", blades)


def rotor(random: Random, centre: tuple[float, float, float], radius: float, normal: str, blades: int) -> Shape:
    """Build a turning rotor: a blurred disc, sharp blades, or both."""
    look = random.random()
    shape: Shape = []
    if look < 0.75:
        shape.append(disc(centre, radius, normal, BLADE, random.uniform(0.28, 0.5)))
    if look > 0.35:
        phase, width = random.uniform(0, 2 * pi), 0.035 * radius + 0.012
        for k in range(blades):
            angle = phase + 2 * pi * k / blades
            along, across = (cos(angle), sin(angle)), (-sin(angle) * width, cos(angle) * width)
            flat = [
                (along[0] * r + s * across[0], along[1] * r + s * across[1])
                for r, s in ((0, 1), (radius, 1), (radius, -1), (0, -1))
            ]
            if normal == "z":
                shape += slab([(centre[0] + u, centre[1] + v, centre[2]) for u, v in flat], (0, 0, 0.02), BLADE)
            else:
                shape += slab([(centre[0] + u, centre[1], centre[2] + v) for u, v in flat], (0, 0.02, 0), BLADE)
    return shape


def skids(y: float, colour: Colour) -> Shape:
    """Build two skids on struts."""
    runner = tube(
        [Ring(0.45, 0.012, 0.012, -0.33), Ring(0.38, 0.016, 0.016, -0.36), Ring(-0.32, 0.016, 0.016, -0.36)],
        [colour],
        y=y,
    )
    struts: Shape = []
    for x in (0.22, -0.16):
        struts += slab(
            [(x + 0.015, 0.6 * y, -0.15), (x + 0.015, y, -0.36), (x - 0.015, y, -0.36), (x - 0.015, 0.6 * y, -0.15)],
            (0.01, 0.02, 0),
            colour,
        )
    return mirrored([*runner, *struts])


FAMILIES: tuple[tuple[Callable[[Random], Shape], float], ...] = (
    (light_helicopter, 0.5),
    (transport_helicopter, 0.32),
    (tandem_helicopter, 0.18),
)
"""The families and how often each is drawn."""


def helicopter(random: Random) -> Shape:
    """Build a helicopter of a random family."""
    families, shares = zip(*FAMILIES, strict=True)
    family: Callable[[Random], Shape] = families[int(random.choice(len(families), p=shares))]
    return family(random)
