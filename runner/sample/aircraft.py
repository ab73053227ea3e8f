"""Parts and paints shared by the sample's airplanes and helicopters."""

import numpy as np

from runner.sample.mesh import Colour, Face, slab

Shape = list[Face]
Random = np.random.Generator

LIGHT_PAINT: tuple[Colour, ...] = ((240, 242, 245), (228, 230, 226), (205, 212, 220), (245, 235, 210))
BOLD_PAINT: tuple[Colour, ...] = (
    (190, 40, 35),
    (30, 70, 150),
    (235, 180, 40),
    (30, 110, 70),
    (240, 120, 30),
    (20, 130, 150),
    (90, 40, 110),
)
DULL_PAINT: tuple[Colour, ...] = ((95, 105, 112), (80, 90, 65), (60, 64, 70), (140, 130, 105), (40, 48, 62))
GLASS: Colour = (38, 48, 60)
METAL: Colour = (120, 124, 130)
BLADE: Colour = (48, 48, 52)


def pick(random: Random, paints: tuple[Colour, ...]) -> Colour:
    """Return a random paint."""
    return paints[int(random.integers(len(paints)))]


def livery(random: Random, *, military: bool = False) -> tuple[Colour, Colour]:
    """Return random colours of hull and trim."""
    if military:
        return (paint := pick(random, DULL_PAINT)), paint
    hull = pick(random, LIGHT_PAINT if random.random() < 0.7 else BOLD_PAINT)
    return hull, pick(random, BOLD_PAINT + DULL_PAINT)


def hull_colours(hull: Colour, trim: Colour, *, belly: bool, windows: bool = True) -> list[Colour]:
    """Return the colours of a hull's twelve strips: windows or a stripe at the sides; a belly in the trim's colour."""
    side = GLASS if windows else trim
    low = trim if belly else hull
    return [side, hull, hull, hull, hull, side, hull, low, low, low, low, hull]


def wing(
    root: tuple[float, float, float], chord: float, tip: tuple[float, float, float], tip_chord: float, colour: Colour
) -> Shape:
    """Build a tapered wing or tailplane from root to tip (leading edges), in three spans for correct depth sorting."""
    start, end = np.array(root), np.array(tip)
    shape: Shape = []
    for near, far in ((0.0, 0.33), (0.33, 0.67), (0.67, 1.0)):
        ends = [(start + (end - start) * t, chord + (tip_chord - chord) * t) for t in (near, far)]
        (a, a_chord), (b, b_chord) = ends
        outline = [a, b, b - np.array([b_chord, 0, 0]), a - np.array([a_chord, 0, 0])]
        shape += slab([(float(p[0]), float(p[1]), float(p[2])) for p in outline], (0, 0, 0.12 * a_chord), colour)
    return shape


def fin(x: float, z: float, chord: float, height: float, sweep: float, colour: Colour, *, y: float = 0.0) -> Shape:
    """Build an upright tail fin that starts at (x, y, z) and leans back by `sweep`."""
    tip_chord = 0.5 * chord
    outline = [(x, y, z), (x - sweep, y, z + height), (x - sweep - tip_chord, y, z + height), (x - chord, y, z)]
    return slab(outline, (0, 0.08 * chord, 0), colour)
