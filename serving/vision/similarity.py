"""Near-duplicate pictures by a difference hash of 64 bits (N. Krawetz, "Kind of Like That", 2013)."""

from collections import deque

from PIL import Image

_SIDE = 8


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits: whether each of 8 x 8 cells is brighter than the one at its left; similar pictures share most."""
    grey = image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    values = grey.tobytes()
    bits = 0
    for row in range(_SIDE):
        for column in range(_SIDE):
            place = row * (_SIDE + 1) + column
            bits = bits << 1 | (values[place + 1] > values[place])
    return bits


class Seen:
    """Hashes of the pictures kept recently."""

    def __init__(self, bits: int, remember: int = 1_000) -> None:
        """Take the largest Hamming distance, of 64 bits, of near-duplicates (-1: none are)."""
        self._bits = bits
        self._hashes: deque[int] = deque(maxlen=remember)

    def like(self, hashed: int) -> bool:
        """Whether a recent picture is a near-duplicate."""
        return any((hashed ^ other).bit_count() <= self._bits for other in self._hashes)

    def add(self, hashed: int) -> None:
        """Add a hash."""
        self._hashes.append(hashed)
