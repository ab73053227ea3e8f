"""Airplanes of the sample dataset: four families with random proportions and paint."""

from collections.abc import Callable

from runner.sample.aircraft import BLADE, GLASS, METAL, Random, Shape, fin, hull_colours, livery, pick, wing
from runner.sample.mesh import Ring, disc, mirrored, slab, tube


def airliner(random: Random) -> Shape:
    """Build an airliner: low swept wings, two or four engines under them or two at the tail."""
    hull, trim = livery(random)
    radius = random.uniform(0.085, 0.125)
    rings = [Ring(1.0, 0.01, 0.01, -0.03), Ring(0.93, 0.6 * radius, 0.55 * radius, -0.02), Ring(0.8, radius, radius)]
    rings += [Ring(-0.45, radius, radius), Ring(-0.98, 0.02, 0.025, 0.5 * radius)]
    shape = tube(rings, hull_colours(hull, trim, belly=random.random() < 0.4))
    shape += tube(
        [Ring(0.95, 0.4 * radius, 0.35 * radius, 0.02), Ring(0.88, 0.5 * radius, 0.3 * radius, 0.05)], [GLASS]
    )
    span, sweep = random.uniform(0.8, 1.05), random.uniform(0.35, 0.6)
    paint = pick(random, (METAL, hull, (190, 194, 200)))
    shape += mirrored(wing((0.22, 0.8 * radius, -0.06), 0.36, (0.22 - sweep, span, 0.04), 0.09, paint))
    high_tail = random.random() < 0.25
    height = random.uniform(0.26, 0.36)
    tail_z = height + 0.05 if high_tail else 0.03
    shape += fin(-0.68, 0.7 * radius, 0.26, height, 0.2, trim)
    shape += mirrored(wing((-0.76, 0.02, tail_z), 0.17, (-0.92, 0.33, tail_z + 0.02), 0.07, paint))
    if high_tail:
        places = [(-0.45, 1.7 * radius, 0.04)]
    else:
        places = [(0.2 - 0.3 * sweep, 0.34 * span, -0.13), (0.1 - 0.62 * sweep, 0.64 * span, -0.09)]
        places = places[: 2 if random.random() < 0.25 else 1]
    for x, y, z in places:
        nacelle = [Ring(x + 0.1, 0.055, 0.055, z), Ring(x, 0.062, 0.062, z), Ring(x - 0.12, 0.035, 0.035, z)]
        shape += mirrored(tube(nacelle, [trim if random.random() < 0.4 else METAL], y=y))
    return shape


def fighter(random: Random) -> Shape:
    """Build a fighter: pointed hull, delta or swept wings, one or two fins."""
    hull, trim = livery(random, military=random.random() < 0.75)
    rings = [
        Ring(1.0, 0.005, 0.005),
        Ring(0.6, 0.06, 0.06),
        Ring(0.1, 0.12, 0.09),
        Ring(-0.8, 0.11, 0.08),
        Ring(-0.9, 0.08, 0.07),
    ]
    shape = tube(rings, hull_colours(hull, trim, belly=False, windows=False))
    shape += tube([Ring(0.62, 0.01, 0.02, 0.06), Ring(0.42, 0.05, 0.07, 0.08), Ring(0.1, 0.02, 0.02, 0.08)], [GLASS])
    span, reach = random.uniform(0.45, 0.68), random.uniform(0.3, 0.75)
    shape += mirrored(wing((0.3, 0.08, 0.0), 0.95, (0.3 - reach, span, 0.0), random.uniform(0.08, 0.3), hull))
    if random.random() < 0.6:
        shape += mirrored(wing((-0.6, 0.1, 0.0), 0.25, (-0.82, 0.34, 0.0), 0.1, hull))
    if random.random() < 0.5:
        return shape + mirrored(fin(-0.5, 0.06, 0.32, 0.26, 0.16, trim, y=0.1))
    return shape + fin(-0.45, 0.06, 0.38, 0.3, 0.2, trim)


def propeller_plane(random: Random) -> Shape:
    """Build a light single or twin: straight wings, high or low (or both: a biplane), and fixed wheels."""
    hull, trim = livery(random)
    rings = [
        Ring(0.72, 0.05, 0.05),
        Ring(0.66, 0.1, 0.1),
        Ring(0.2, 0.12, 0.15, 0.02),
        Ring(-0.15, 0.1, 0.12, 0.03),
        Ring(-0.8, 0.025, 0.04, 0.06),
    ]
    shape = tube(rings, hull_colours(hull, trim, belly=random.random() < 0.5, windows=False))
    shape += tube([Ring(0.36, 0.06, 0.02, 0.12), Ring(0.18, 0.11, 0.08, 0.14), Ring(-0.1, 0.09, 0.05, 0.12)], [GLASS])
    levels = {0: (0.19,), 1: (-0.08,), 2: (0.25, -0.1)}[int(random.choice(3, p=[0.45, 0.35, 0.2]))]
    span, chord = random.uniform(0.8, 1.1), random.uniform(0.22, 0.3)
    paint = trim if random.random() < 0.3 else hull
    for z in levels:
        shape += mirrored(wing((0.28, 0.0 if z > 0 else 0.1, z), chord, (0.25, span, z + 0.05), 0.75 * chord, paint))
    shape += fin(-0.58, 0.06, 0.24, 0.26, 0.12, trim)
    shape += mirrored(wing((-0.62, 0.02, 0.07), 0.18, (-0.66, 0.36, 0.07), 0.13, paint))
    noses = (
        [(0.73, 0.0, 0.0)]
        if len(levels) == 2 or random.random() < 0.7
        else [(0.44, 0.36, levels[0]), (0.44, -0.36, levels[0])]
    )
    for x, y, z in noses:
        if y:
            shape += tube(
                [Ring(x, 0.03, 0.03, z), Ring(x - 0.1, 0.06, 0.06, z), Ring(x - 0.4, 0.03, 0.03, z)], [trim], y=y
            )
        shape.append(disc((x + 0.02, y, z), 0.24, "x", BLADE, random.uniform(0.2, 0.45)))
    for x, y in ((0.1, 0.16), (0.1, -0.16), (0.52, 0.0)):
        shape += slab(
            [(x + 0.05, y, -0.2), (x + 0.05, y, -0.29), (x - 0.05, y, -0.29), (x - 0.05, y, -0.2)], (0, 0.035, 0), BLADE
        )
        shape += slab(
            [(x + 0.01, y, -0.08), (x + 0.01, y, -0.2), (x - 0.01, y, -0.2), (x - 0.01, y, -0.08)], (0, 0.02, 0), METAL
        )
    return shape


def glider(random: Random) -> Shape:
    """Build a glider: slim hull, very long wings, T-tail."""
    hull, trim = livery(random)
    rings = [
        Ring(0.6, 0.01, 0.01),
        Ring(0.45, 0.06, 0.065),
        Ring(0.1, 0.065, 0.08),
        Ring(-0.2, 0.03, 0.035, 0.02),
        Ring(-0.75, 0.018, 0.022, 0.03),
    ]
    shape = tube(rings, [hull])
    shape += tube([Ring(0.48, 0.02, 0.01, 0.05), Ring(0.3, 0.05, 0.05, 0.06), Ring(0.1, 0.03, 0.02, 0.06)], [GLASS])
    span = random.uniform(1.15, 1.5)
    shape += mirrored(wing((0.15, 0.03, 0.05), 0.15, (0.08, span, 0.05 + random.uniform(0.02, 0.16)), 0.06, hull))
    shape += fin(-0.6, 0.03, 0.15, 0.2, 0.06, trim)
    return shape + mirrored(wing((-0.66, 0.0, 0.23), 0.1, (-0.69, 0.24, 0.23), 0.06, hull))


FAMILIES: tuple[tuple[Callable[[Random], Shape], float], ...] = (
    (airliner, 0.4),
    (propeller_plane, 0.3),
    (fighter, 0.18),
    (glider, 0.12),
)
"""The families and how often each is drawn."""


def airplane(random: Random) -> Shape:
    """Build an airplane of a random family."""
    families, shares = zip(*FAMILIES, strict=True)
    family: Callable[[Random], Shape] = families[int(random.choice(len(families), p=shares))]
    return family(random)
