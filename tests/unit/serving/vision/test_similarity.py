"""Pictures that look alike are told from others."""

import numpy as np
from PIL import Image

from serving.vision.similarity import Seen, difference_hash


def scene(seed: int, shift: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (9, 10), np.uint8)
    large = Image.fromarray(values).resize((640, 480), Image.Resampling.BICUBIC)
    return large.convert("RGB").transform(large.size, Image.Transform.AFFINE, (1, 0, shift, 0, 1, 0))


def test_nothing_alike_when_nothing_was_seen() -> None:
    assert not Seen(64).like(0)


def test_alike_when_scaled_or_moved_a_little() -> None:
    seen = Seen(6)
    seen.add(difference_hash(scene(1)))
    assert seen.like(difference_hash(scene(1)))
    assert seen.like(difference_hash(scene(1).resize((320, 200))))
    assert seen.like(difference_hash(scene(1, shift=4)))
    assert not any(seen.like(difference_hash(scene(other))) for other in range(2, 30))


def test_all_kept_when_switched_off() -> None:
    seen = Seen(-1)
    seen.add(7)
    assert not seen.like(7)


def test_forgotten_when_long_ago() -> None:
    seen = Seen(0, remember=2)
    for hashed in (1, 2, 4):
        seen.add(hashed)
    assert [seen.like(hashed) for hashed in (1, 2, 4)] == [False, True, True]
