"""Small files that ask for much memory or time: each valid enough to be decoded by a reader that trusts its headers."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

from tests.support.pictures import encoded, gradient


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_of_scans(scans: int, side: int, *, components: int = 1, frame: int = 0xC2) -> bytes:
    """A progressive JPEG of side x side whose scans say nothing: each costs a pass over all coefficients."""
    data = b"\xff\xd8" + segment(0xDB, bytes([0]) + bytes([1] * 64))
    parts = b"".join(bytes([each, 0x11, 0]) for each in range(1, components + 1))
    data += segment(frame, struct.pack(">BHHB", 8, side, side, components) + parts)
    data += segment(0xC4, bytes([0x10, 1] + [0] * 15 + [0xE0]))  # one AC code: a run of empty blocks
    data += segment(0xC4, bytes([0x00, 1] + [0] * 15 + [0x00]))  # one DC code: difference 0
    blocks, bits = (-(-side // 8)) ** 2, ""
    while blocks > 0:
        run = min(32767, max(blocks, 16384))
        bits += "0" + format(run - 16384, "014b")
        blocks -= run
    bits += "1" * (-len(bits) % 8)
    body = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + body
    return data + scan * scans + b"\xff\xd9"


def jpeg_with(inserted: bytes) -> bytes:
    """A usual JPEG with bytes before its frame."""
    whole = encoded(gradient(), "JPEG")
    return whole[:2] + inserted + whole[2:]


def png_of(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A usual PNG with chunks behind its header."""
    whole = encoded(gradient(), "PNG")
    return whole[:33] + b"".join(_chunk(kind, body) for kind, body in chunks) + whole[33:]


def png_behind(kind: bytes, body: bytes) -> bytes:
    """A usual PNG with a chunk before its header."""
    whole = encoded(gradient(), "PNG")
    return whole[:8] + _chunk(kind, body) + whole[8:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def gif_of_comments(count: int) -> bytes:
    """A GIF with so many blocks of a comment before its picture."""
    whole = encoded(gradient(), "GIF")
    at = 13 + (3 << (whole[10] & 7) + 1 if whole[10] & 0x80 else 0)
    return whole[:at] + b"\x21\xfe" + (b"\xff" + b"x" * 255) * count + b"\0" + whole[at:]


def gif_with_a_large_frame(side: int) -> bytes:
    """A GIF of 1 x 1 pixels whose frame is side x side."""
    return b"GIF89a\x01\0\x01\0\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x01\x04\0\x3b"


def tiff_of(tags: Sequence[tuple[int, int, int]], *, big: bool = False, order: str = "<", data: bytes = b"") -> bytes:
    """A TIFF with these tags, each of a type and one number, and `data` at the end."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        entries = b"".join(struct.pack(f"{order}HHQQ", tag, kind, 1, value) for tag, kind, value in sorted(tags))
        return mark + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, len(tags)) + entries + bytes(8) + data
    entries = b""
    for tag, kind, value in sorted(tags):
        number = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        entries += struct.pack(f"{order}HHI", tag, kind, 1) + number
    return mark + struct.pack(f"{order}HIH", 42, 8, len(tags)) + entries + bytes(4) + data


def tiff_of_a_tile(tile: int, *, compression: int = 8, big: bool = False, order: str = "<", rle: bytes = b"") -> bytes:
    """A grey TIFF of 16 x 16 pixels in one tile of tile x tile."""
    head = 8 + 2 + 12 * 11 + 4 if not big else 16 + 8 + 20 * 11 + 8
    tags = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, compression), (262, 3, 1), (277, 3, 1), (284, 3, 1)]
    tags += [(322, 4, tile), (323, 4, tile), (324, 4, head), (325, 4, len(rle))]
    return tiff_of(tags, big=big, order=order, data=rle)


def zeros(count: int) -> bytes:
    """Bytes that inflate to so many zeros."""
    deflate = zlib.compressobj(9)
    return b"".join([*(deflate.compress(bytes(1 << 20)) for _ in range(-(-count >> 20))), deflate.flush()])


def jpeg2000_of(width: int, height: int, tile: tuple[int, int], components: int = 1) -> bytes:
    """The headers of a JPEG 2000 codestream."""
    sizes = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, *tile, 0, 0, components) + b"\x07\x01\x01" * components
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(sizes) + 2) + sizes


def webp_of(width: int, height: int) -> bytes:
    """The headers of an extended WebP."""
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif_of(sizes: Sequence[tuple[int, int]]) -> bytes:
    """The first boxes of an AVIF whose items have these sizes."""
    properties = b"".join(struct.pack(">I4sIII", 20, b"ispe", 0, *size) for size in sizes)
    return struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"avif", 0, b"avif", b"mif1") + properties


def mov_of(frames: Sequence[bytes], *, codec: bytes = b"png ", samples: int = 0) -> bytes:
    """A QuickTime file of 16 x 16 pixels with these frames; with `samples` it claims so many, of a byte each."""
    flat = b"".join(frames)
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    entry = struct.pack(">6xH16xHHIIIH32xHh", 1, 16, 16, 72 << 16, 72 << 16, 0, 1, 24, -1)
    head = _box(b"ftyp", b"qt  \0\0\0\0qt  ")
    number = samples or len(frames)
    sizes = b"" if samples else b"".join(struct.pack(">I", len(each)) for each in frames)
    table = _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1) + _box(codec, entry)),
        _box(b"stts", struct.pack(">IIII", 0, 1, number, 40)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, number, 1)),
        _box(b"stsz", struct.pack(">III", 0, bool(samples), number) + sizes),
        _box(b"stco", struct.pack(">III", 0, 1, len(head) + 8)),
    )
    reference = _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1) + _box(b"url ", struct.pack(">I", 1))))
    media = _box(
        b"mdia",
        _box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, 1_000, 40, 0)),
        _box(b"hdlr", struct.pack(">I", 0) + b"mhlrvide" + bytes(13)),
        _box(b"minf", _box(b"vmhd", struct.pack(">III", 1, 0, 0)), reference, table),
    )
    track = struct.pack(">IIIIII16x", 7, 0, 0, 1, 0, 40) + matrix + struct.pack(">II", 16 << 16, 16 << 16)
    film = struct.pack(">IIIIIIH10x", 0, 0, 0, 1_000, 40, 1 << 16, 256) + matrix + struct.pack(">24xI", 2)
    return head + _box(b"mdat", flat) + _box(b"moov", _box(b"mvhd", film), _box(b"trak", _box(b"tkhd", track), media))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def largest() -> dict[str, bytes]:
    """The costliest pictures that the server allows, 49 megapixels in each format."""
    image = Image.new("RGB", (7_000, 7_000), "#336699")
    kinds: dict[str, dict[str, Any]] = {
        "WEBP": {"method": 0},
        "JPEG2000": {"irreversible": True},
        "AVIF": {"speed": 10},
        "JPEG": {"progressive": True, "subsampling": 0},
        "PNG": {"compress_level": 1},
        "TIFF": {"compression": "tiff_deflate"},
        "GIF": {},
    }
    return {kind: encoded(image, kind, **options) for kind, options in kinds.items()}


def attacks() -> dict[str, bytes]:
    """Files that ask for much."""
    return {
        "tile": tiff_of_a_tile(26_000, rle=zeros(60_000_000)),
        "scans": jpeg_of_scans(2_000, 4_000),
        "allowed scans": jpeg_of_scans(99, 7_000),
        "chunks": png_of([(b"teSt", b"")] * 60_000),
        "comments": gif_of_comments(40_000),
        "frame": gif_with_a_large_frame(60_000),
        "pixels": webp_of(16_384, 16_384),
    }
