import numpy as np
from PIL import Image

from serving.vision.similarity import RecentHashes, difference_hash, look_of, near_duplicates


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


def pairs(images: list[Image.Image]) -> set[tuple[int, ...]]:
    looks = [look_of(image) for image in images]
    return {tuple(sorted(pair)) for found in near_duplicates(looks) for pair in found.tolist()}


def test_no_pairs_when_there_is_no_picture() -> None:
    assert list(near_duplicates([])) == []


def test_near_duplicates_are_found_when_scaled_or_moved_a_little_and_no_others() -> None:
    others = [scene(number) for number in range(2, 60)]
    same = [scene(1), scene(1).resize((320, 200)), scene(1, shift=2)]
    assert pairs([same[0], *others, *same[1:]]) == {(0, 59), (0, 60), (59, 60)}


def test_all_pairs_are_found_when_pictures_are_many() -> None:
    random = np.random.default_rng(0)
    hashes = [int.from_bytes(random.bytes(8)) for _ in range(300)]
    hashes += [each ^ sum(1 << int(bit) for bit in random.choice(64, 4, replace=False)) for each in hashes]
    looks = [f"{hashed:016x}{'00ff' * 8}" for hashed in hashes]
    found = {tuple(sorted(pair)) for rows in near_duplicates(looks) for pair in rows.tolist()}
    assert found == {(place, place + 300) for place in range(300)}


def test_clear_skies_are_no_near_duplicates_when_only_their_hash_is_equal() -> None:
    """Brighter from the top to the bottom: all have hash 0, as have pictures of one colour."""
    slopes = [np.linspace(0, slope, 64, dtype=np.uint8)[:, None].repeat(64, 1) for slope in (0, 1, 60, 130, 250)]
    assert pairs([Image.fromarray(each) for each in slopes]) == set()
