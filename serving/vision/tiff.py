"""Layout of a TIFF: size, and the strips or tiles that are decoded at a time (TIFF 6.0; BigTIFF has wider numbers)."""

import struct
from typing import NamedTuple

_UNITS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of the types BYTE, SHORT, LONG, LONG8


class TiffLayout(NamedTuple):
    """Layout of the first picture of a TIFF."""

    width: int  # pixels
    height: int
    tile_width: int  # pixels of a tile; a strip is a tile as wide as the picture
    tile_height: int
    tiles: int  # tiles or strips
    tile_bytes: int  # of one tile or strip, decompressed
    bits: int  # of a sample


def tiff_layout(data: bytes) -> TiffLayout:
    """Read the first directory of a file; struct.error, ValueError: it is damaged."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    (at,) = struct.unpack_from(f"{order}Q", data, 8) if big else struct.unpack_from(f"{order}I", data, 4)
    tags = _tags(data, at, order, big)
    width, height = tags.get(256, [0])[0], tags.get(257, [0])[0]
    if not width or not height:
        raise ValueError("no size")
    bits = tags.get(258, [1])
    samples = max(len(bits), tags.get(277, [1])[0])
    tiled = 322 in tags or 323 in tags
    tile_width = tags.get(322, [width])[0] if tiled else width
    tile_height = tags.get(323, [height])[0] if tiled else min(height, tags.get(278, [height])[0] or height)
    if not tile_width or not tile_height:
        raise ValueError("tiles without a size")
    planes = samples if tags.get(284, [1])[0] == 2 else 1
    tiles = -(-width // tile_width) * -(-height // tile_height) * planes
    tile_bytes = tile_width * tile_height * max(4, max(bits) * samples / 8)
    return TiffLayout(width, height, tile_width, tile_height, tiles, int(tile_bytes), max(bits))


def _tags(data: bytes, at: int, order: str, big: bool) -> dict[int, list[int]]:
    """Return the numbers of each tag that has some, at most 64 of each."""
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)
    at += 8 if big else 2
    width, inline = (20, 8) if big else (12, 4)
    tags: dict[int, list[int]] = {}
    for entry in range(at, at + width * min(count, 65_535), width):
        tag, kind, length = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", data, entry)
        if tag in tags or kind not in _UNITS or not length:
            continue
        unit = _UNITS[kind]
        where = entry + width - inline
        if length * struct.calcsize(unit) > inline:
            (where,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, where)
        if where + struct.calcsize(unit) <= len(data):
            fits = min(length, 64, (len(data) - where) // struct.calcsize(unit))
            tags[tag] = list(struct.unpack_from(f"{order}{fits}{unit}", data, where))
    return tags
