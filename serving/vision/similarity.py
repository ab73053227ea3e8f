"""Near-duplicate pictures by a difference hash of 64 bits (N. Krawetz, "Kind of Like That", 2013)."""

from collections import deque

import numpy as np
from PIL import Image

_SIDE = 8


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits: whether each of 8 x 8 cells is brighter than the one at its left; similar pictures share most."""
    grey = np.asarray(image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())


class RecentHashes:
    """Hashes of the last pictures."""

    def __init__(self, bits: int, remember: int = 1_000) -> None:
        """Take the largest Hamming distance, of 64 bits, of near-duplicates (-1: none are), and how many to hold."""
        self._bits = bits
        self._hashes: deque[int] = deque(maxlen=remember)

    def has_similar(self, hashed: int) -> bool:
        """Whether one of the pictures is a near-duplicate."""
        return any((hashed ^ other).bit_count() <= self._bits for other in self._hashes)

    def add(self, hashed: int) -> None:
        """Add a hash."""
        self._hashes.append(hashed)
