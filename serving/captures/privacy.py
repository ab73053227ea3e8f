"""JPEG files without what cameras and programs write beside the pixels: place, owner, device, comments, previews."""

import re

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)  # with its fill bytes
_IN_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # the end of a scan's data; restarts belong to it
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length: TEM, RST0 to RST7, SOI
_SOS, _EOI, _COMMENT = 0xDA, 0xD9, 0xFE
# Application segments that decide how the pixels look: ITU-T T.871 (JFIF), ICC.1 annex B.4, Adobe's transform.
_KEPT = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}


def without_metadata(jpeg: bytes) -> bytes:
    """Return a JPEG file with the same pixels, without EXIF, XMP, IPTC, comments, previews, and what follows its end.

    ValueError: not a whole JPEG. The orientation goes too: turn the picture upright first.
    """
    if not jpeg.startswith(b"\xff\xd8"):
        raise ValueError("not a JPEG")
    out, place = [b"\xff\xd8"], 2
    while found := _MARKER.search(jpeg, place):
        marker, place = found[1][0], found.end()
        if marker == _EOI:
            return b"".join([*out, b"\xff\xd9"])
        if marker in _ALONE:
            continue
        end = place + int.from_bytes(jpeg[place : place + 2], "big")
        body = jpeg[place + 2 : end]
        if end < place + 2 or end > len(jpeg):
            break
        if marker == _SOS:  # its data follow without a length
            following = _IN_SCAN.search(jpeg, end)
            end = following.start() if following else len(jpeg)
        application = 0xE0 <= marker <= 0xEF
        if marker != _COMMENT and (not application or (marker in _KEPT and body.startswith(_KEPT[marker]))):
            out += [bytes((0xFF, marker)), jpeg[place:end]]
        place = end
    raise ValueError("the JPEG ends too early")
