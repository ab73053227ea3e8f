"""Structure of a picture file, read from its headers alone: what decoding it costs, before anything is decoded.

A few bytes of header can ask for gigabytes or hours: a tile larger than the picture, ten thousand empty scans, a
million empty chunks. So a picture is judged by its structure, and not by the size of its file.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from serving.vision.tiff import tiff_layout

MAX_PIXELS = 100_000_000
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # ends the data of a scan: FF is stuffed, or a restart, inside
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xDE)) - {0xC4, 0xC8, 0xCC}
_EXTENSIONS = frozenset((0xC8, *range(0xF0, 0xFE)))  # libjpeg refuses them; Pillow looks for markers inside them
_BARE = frozenset((0x01, *range(0xD0, 0xDA)))  # markers without a length; JPEG's ITU T.81, table B.1
_MAX_TABLE_BYTES = 65_536  # of a JPEG before its first scan; four tables of each kind take less than 2,000
_MAX_METADATA_BYTES = 4_000_000  # EXIF of several segments; Pillow joins them one by one
_MAX_PNG_TEXT_BYTES = 2 * 64 * 2**20  # PngImagePlugin.MAX_TEXT_MEMORY, as bytes and as text
# A progressive JPEG of more is decoded where it can be ended.
_PLAIN_SCANS, _PLAIN_PIXELS = 16, 4_000_000


class PictureError(Exception):
    """Base of all errors of a picture: the bytes are at fault, not the program."""


class UnsupportedError(PictureError):
    """Not a picture, or an unsupported format."""


class UnreadableError(PictureError):
    """A supported format, but truncated or damaged."""


class TooLargeError(PictureError):
    """More pixels, parts, memory or time than allowed."""


@dataclass(frozen=True)
class Limits:
    """Limits of the structure of one picture; a larger one raises TooLargeError."""

    pixels: int = MAX_PIXELS  # width x height of the picture, and of one of its tiles or frames
    parts: int = 50_000  # segments, chunks, boxes, tiles or strips
    scans: int = 100  # of a JPEG; encoders write up to about 20


class Header(NamedTuple):
    """What the headers of a file say."""

    width: int  # pixels as stored, not yet upright; of a file of several sizes, the largest
    height: int
    memory: int  # bytes that decoding to upright RGB takes at most, beside the file
    bounded: bool  # its work is bounded by its pixels: it may be decoded where nothing can end it


class _Cost(NamedTuple):
    width: int
    height: int
    per_pixel: float  # bytes of memory
    bounded: bool = False
    extra: float = 0  # bytes of memory


def inspect(kind: str, data: bytes, limits: Limits) -> Header:
    """Return the structure of a file.

    Args:
        kind: of the first bytes, in Pillow's words: JPEG, PNG, WEBP, GIF, BMP, TIFF, JPEG2000, AVIF; or HEIC.
        data: the whole file.
    Raises:
        TooLargeError: beyond a limit.
        UnreadableError: the headers are damaged.
    """
    try:
        cost = _READERS[kind](data, limits)
    except (struct.error, IndexError, ValueError) as error:
        raise UnreadableError(
            f"damaged or truncated {kind} picture (its headers end early); expected one that opens in a picture viewer"
        ) from error
    check_pixels(cost.width, cost.height, limits)
    return Header(cost.width, cost.height, int(cost.width * cost.height * cost.per_pixel + cost.extra), cost.bounded)


def check_pixels(width: int, height: int, limits: Limits, what: str = "") -> None:
    """Raise TooLargeError if a picture, or a part of one, has too many pixels."""
    if width * height > limits.pixels:
        raise TooLargeError(f"{what}{width}x{height} pixels; expected at most {limits.pixels:,} in all")


def _check_parts(count: int, limits: Limits, what: str) -> None:
    if count > limits.parts:
        raise TooLargeError(f"more than {limits.parts:,} {what}; expected at most that")


def _jpeg(data: bytes, limits: Limits) -> _Cost:
    """Walk the segments to the first scan; where libjpeg reads all scans before it shows a pixel, to the last."""
    frame, tables, metadata, exif = b"", 0, 0, False
    start = 2
    for count, (marker, body, end) in enumerate(_segments(data, start, limits)):
        _check_parts(count, limits, "segments")
        if marker in _FRAMES:
            if frame:
                raise UnreadableError("damaged JPEG picture (two frames); expected one")
            frame = bytes([marker]) + body
        elif marker in _EXTENSIONS:
            raise UnreadableError(f"damaged JPEG picture (an extension, FF{marker:02X}); expected one without")
        elif marker == 0xDA:
            start = end
            interleaved = bool(frame) and body[0] == frame[6]
            break
        elif 0xE0 <= marker <= 0xFE:
            is_exif = body[:4] == b"Exif"
            exif = exif or is_exif
            metadata += len(body) if is_exif else 0
        else:
            tables += len(body)
        if tables > _MAX_TABLE_BYTES or metadata > _MAX_METADATA_BYTES:
            raise TooLargeError("too many tables or too much EXIF in the header of the JPEG; expected less than 4 MB")
    else:
        raise UnreadableError(
            "damaged or truncated JPEG picture (no scan); expected one that opens in a picture viewer"
        )
    if not frame:
        raise UnreadableError("damaged JPEG picture (no frame); expected one that opens in a picture viewer")
    height, width, components = struct.unpack(">HHB", frame[2:7])
    check_pixels(width, height, limits)
    channels = 4.0 if components == 3 else 8.0
    per_pixel = channels + (4 if exif else 0)
    if frame[0] in (0xC0, 0xC1) and interleaved:  # all in one scan, which libjpeg decodes row by row
        return _Cost(width, height, per_pixel, bounded=True)
    scans = _scans(data, start, limits)
    sampled = [frame[position] for position in range(8, 7 + 3 * components, 3)]
    areas = [(each >> 4) * (each & 15) for each in sampled]
    widest = max(each >> 4 for each in sampled) * max(each & 15 for each in sampled)
    coefficients = 2 * sum(areas) / max(1, widest)  # jdcoefct.c keeps 16 bits of each
    few = scans <= _PLAIN_SCANS and width * height <= _PLAIN_PIXELS and frame[0] in (0xC0, 0xC1, 0xC2)
    return _Cost(width, height, per_pixel + coefficients, bounded=few, extra=4e6)


def _segments(data: bytes, position: int, limits: Limits) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, body and end of each segment from a position on, as Pillow and libjpeg find them."""
    junk = 0
    while True:
        if (found := data.find(b"\xff", position)) < 0:
            return
        junk += found - position
        while data[found + 1] == 0xFF:  # padding
            found, junk = found + 1, junk + 1
        if junk > limits.parts:
            raise TooLargeError("too many bytes between the segments of the JPEG; expected none")
        marker, position = data[found + 1], found + 2
        if marker in _BARE:
            if marker != 0xD9:
                yield marker, b"", position
                continue
            return
        if marker == 0:
            junk += 2
            continue
        length = struct.unpack_from(">H", data, position)[0]
        body = data[position + 2 : position + length]
        yield marker, body, position + max(2, length)
        position += max(2, length)


def _scans(data: bytes, position: int, limits: Limits) -> int:
    """Return the number of scans, of which the first one's data begin at a position; refuse too many."""
    scans = parts = 1
    while found := _MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == 0xD9:
            break
        parts += 1
        _check_parts(parts, limits, "segments")
        if marker in _BARE:
            continue
        scans += marker == 0xDA
        if scans > limits.scans:
            raise TooLargeError(f"more than {limits.scans} scans in the JPEG; expected at most that")
        if position + 2 > len(data):
            break
        position += struct.unpack_from(">H", data, position)[0]
    return scans


def _png(data: bytes, limits: Limits) -> _Cost:
    """PNG: Pillow takes the size of the last IHDR before the data, wherever it is; the standard has one, the first."""
    if data[12:16] != b"IHDR":
        raise UnreadableError("damaged PNG picture (it does not begin with IHDR); expected one that can be viewed")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    position, count, kinds, packed = 8, 0, set(), 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        count += 1
        _check_parts(count, limits, "chunks")
        if kind == b"IHDR" and count > 1:
            raise UnreadableError("damaged PNG picture (two IHDR); expected one that can be viewed")
        kinds.add(kind)
        packed += length if kind in (b"zTXt", b"iTXt") else 0
        if kind == b"IEND":
            break
        position += 12 + length
    per_pixel = 8.0 if depth == 16 else {2: 4.0, 0: 5.0, 3: 5.0}.get(colour, 8.0)
    if kinds & {b"eXIf", b"zTXt", b"tEXt", b"iTXt"}:  # may name an orientation
        per_pixel += 4
    if b"acTL" in kinds:
        per_pixel += 8
    text = min(_MAX_PNG_TEXT_BYTES, 2 * 1032 * packed)  # deflate shrinks to 1/1032 at most
    return _Cost(width, height, per_pixel, bounded=True, extra=1e6 + text)


def _webp(data: bytes, limits: Limits) -> _Cost:
    """WebP: libwebp's animation decoder, which Pillow uses for all, keeps two canvases and gives a copy."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (struct.unpack_from("<H", data, at)[0] & 0x3FFF for at in (26, 28))
    return _Cost(width, height, 18, extra=2 * len(data))


def _gif(data: bytes, limits: Limits) -> _Cost:
    """GIF: the first frame may be larger than the screen, which then grows."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    count = 0
    while data[position] == 0x21:  # extensions
        position += 2
        while size := data[position]:
            position, count = position + 1 + size, count + 1
            _check_parts(count, limits, "blocks of extensions")
        position, count = position + 1, count + 1
        _check_parts(count, limits, "blocks of extensions")
    if data[position] == 0x2C:
        left, top, inner_width, inner_height = struct.unpack_from("<HHHH", data, position + 1)
        width, height = max(width, left + inner_width), max(height, top + inner_height)
    return _Cost(width, height, 10)


def _bmp(data: bytes, limits: Limits) -> _Cost:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = (abs(side) for side in struct.unpack_from("<ii", data, 18))
    return _Cost(width, height, 12)


def _tiff(data: bytes, limits: Limits) -> _Cost:
    layout = tiff_layout(data)
    check_pixels(layout.width, layout.height, limits)
    check_pixels(layout.tile_width, layout.tile_height, limits, "tiles of ")
    _check_parts(layout.tiles, limits, "tiles or strips")
    return _Cost(layout.width, layout.height, 12, extra=3 * layout.tile_bytes + len(data))


def _jpeg2000(data: bytes, limits: Limits) -> _Cost:
    """JPEG 2000: ISO 15444-1, A.5.1; OpenJPEG keeps 32 bits of each sample of a tile, and Pillow a copy of it."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        raise UnreadableError("damaged or truncated JPEG2000 picture (no codestream); expected one that can be viewed")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
        ">8IH", data, at + 8
    )
    width, height = right - left, bottom - top
    if not tile_width or not tile_height or width <= 0 or height <= 0:
        raise UnreadableError("damaged JPEG2000 picture (its tiles have no size); expected one that can be viewed")
    check_pixels(width, height, limits)
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    _check_parts(tiles, limits, "tiles")
    depth = max((data[at + 42 + 3 * each] & 0x7F) + 1 for each in range(max(1, components)))
    tile = min(tile_width, width) * min(tile_height, height)
    extra = tile * components * (5 if depth <= 8 else 6) + 200 * tiles + 2 * len(data)
    return _Cost(width, height, 4 if components >= 3 else 6, extra=extra)


def _boxed(data: bytes, limits: Limits) -> _Cost:
    """AVIF and HEIC: the largest `ispe` property (ISO 23008-12, 6.5.3) of all items; tiles have their own."""
    sizes = [
        struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"\0\0\0\x14ispe", data[:1_000_000])
    ]
    side = int(limits.pixels**0.5)  # of a sequence without items: as large as it may be
    width, height = max(sizes, key=lambda size: size[0] * size[1]) if sizes else (side, side)
    return _Cost(width, height, 16, extra=2 * len(data))


_READERS: dict[str, Callable[[bytes, Limits], _Cost]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
    "JPEG2000": _jpeg2000,
    "AVIF": _boxed,
    "HEIC": _boxed,
}
