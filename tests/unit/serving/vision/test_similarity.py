"""Near-duplicates: similar pictures are told from others."""

import numpy as np
from PIL import Image

from serving.vision.similarity import RecentHashes, difference_hash


def scene(seed: int, shift: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (9, 10), np.uint8)
    large = Image.fromarray(values).resize((640, 480), Image.Resampling.BICUBIC)
    return large.convert("RGB").transform(large.size, Image.Transform.AFFINE, (1, 0, shift, 0, 1, 0))


def test_bits_are_brighter_cells_when_hashed() -> None:
    rising = Image.fromarray(np.arange(9, dtype=np.uint8)[None].repeat(8, 0))
    falling_row = np.asarray(rising).copy()
    falling_row[0] = falling_row[0, ::-1]
    assert difference_hash(rising) == 2**64 - 1
    assert difference_hash(Image.fromarray(falling_row)) == 2**56 - 1  # the first row is the highest byte


def test_similar_when_scaled_or_moved_a_little() -> None:
    recent = RecentHashes(6)
    assert not recent.has_similar(difference_hash(scene(1)))
    recent.add(difference_hash(scene(1)))
    same = (scene(1), scene(1).resize((320, 200)), scene(1, shift=4))
    assert all(recent.has_similar(difference_hash(image)) for image in same)
    assert not any(recent.has_similar(difference_hash(scene(other))) for other in range(2, 30))


def test_only_the_last_are_held_and_none_when_switched_off() -> None:
    recent, off = RecentHashes(0, remember=2), RecentHashes(-1)
    for hashed in (1, 2, 4):
        recent.add(hashed)
        off.add(hashed)
    assert [recent.has_similar(hashed) for hashed in (1, 2, 4)] == [False, True, True]
    assert not off.has_similar(4)
