"""Near-duplicate pictures by a difference hash of 64 bits (N. Krawetz, "Kind of Like That", 2013)."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 8
_THUMBNAIL = 4  # [cells] side of the grey thumbnail of a look
NEAR_BITS = 4  # [bits of 64] by which the difference hashes of near-duplicates differ at most
_NEAR_GREY = 0.15  # [fraction of the contrast] by which their grey thumbnails differ at most, in the mean
_MOST_COMPARED = 64  # [pictures] that agree in a band and are compared with one, which bounds the time
_FLAT = 2  # [grey levels] contrast below which a picture shows too little to be compared


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits: whether each of 8 x 8 cells is brighter than the one at its left; similar pictures share most."""
    grey = np.asarray(image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())


def look_of(image: Image.Image) -> str:
    """Return the look of a picture, 48 hexadecimal digits: its difference hash, and 4 x 4 grey levels.

    The hash alone takes one clear sky for another: it only says where a picture gets brighter, not by how much.
    """
    grey = image.convert("L")
    levels = grey.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX).tobytes()
    return difference_hash(grey).to_bytes(8).hex() + levels.hex()


def near_duplicates(looks: Sequence[str]) -> Iterator[NDArray[np.intp]]:
    """Yield pairs of near-duplicates, (N, 2) positions in `looks`, some at a time; a pair may come more than once.

    Looks are of `look_of`. Hashes that differ in 4 bits agree in one of 5 bands of bits, so only pictures that agree in
    a band are compared; of very many, such as the frames of a fixed camera, each with the next ones by hash.
    """
    packed = np.frombuffer(bytes.fromhex("".join(looks)), np.uint8).reshape(-1, 8 + _THUMBNAIL**2)
    levels = packed[:, 8:].astype(np.float32)
    contrasts = levels.std(axis=1)
    hashes = packed[:, :8].copy().view(">u8").astype(np.uint64).ravel()
    shown = np.flatnonzero(contrasts >= _FLAT)
    edges = np.linspace(0, 64, NEAR_BITS + 2).astype(int)
    for low, high in pairwise(edges):
        bands = (hashes[shown] >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.lexsort((hashes[shown], bands))
        bands, sorted_by_band = bands[order], shown[order]
        for distance in range(1, min(len(bands), _MOST_COMPARED)):
            places = np.flatnonzero(bands[distance:] == bands[:-distance])
            if not len(places):
                break
            one, other = sorted_by_band[places], sorted_by_band[places + distance]
            alike = np.bitwise_count(hashes[one] ^ hashes[other]) <= NEAR_BITS
            one, other = one[alike], other[alike]
            differences = np.abs(levels[one] - levels[other]).mean(axis=1)
            near = differences <= _NEAR_GREY * np.minimum(contrasts[one], contrasts[other])
            yield np.stack([one[near], other[near]], axis=1)


class RecentHashes:
    """Hashes of the last pictures; thread-safe."""

    def __init__(self, bits: int, remember: int = 1_000) -> None:
        """Take the largest Hamming distance, of 64 bits, of near-duplicates (-1: none are), and how many to hold."""
        self._bits = bits
        self._hashes: deque[int] = deque(maxlen=remember)
        self._lock = Lock()

    def has_similar(self, hashed: int) -> bool:
        """Whether one of the pictures is a near-duplicate."""
        with self._lock:
            return any((hashed ^ other).bit_count() <= self._bits for other in self._hashes)

    def add(self, hashed: int) -> None:
        """Add a hash."""
        with self._lock:
            self._hashes.append(hashed)
