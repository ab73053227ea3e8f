"""File names of pictures in a dataset: safe on every file system, unique, and unchanged where possible.

A name is the file's own name without folders, so a regular expression on clip or camera names still works. Unsafe
characters become `_`. Pictures whose names differ only in folder, suffix or case would share a label file: the first
by path keeps its name, the others get `-` and eight hex digits of their path's SHA-256 after the stem.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

MAX_BYTES = 200  # [bytes of UTF-8] of a name; disks allow 255, and temporary files have longer names

_UNSAFE = re.compile(r'[<>:"/\\|?*]')
#: Of Windows, with any suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.IGNORECASE)


def name_pictures(paths: Iterable[str]) -> dict[str, str]:
    """Return the name of each picture, given by its relative path with `/` and a suffix, in any order."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    later = []
    for path in sorted(paths):
        name = _safe(path)
        if stem_key(name) in taken:
            later.append(path)
        else:
            taken.add(stem_key(name))
            names[path] = name
    for path in later:
        digits = 8
        while stem_key(name := _marked(_safe(path), path, digits)) in taken:
            digits += 1
        taken.add(stem_key(name))
        names[path] = name
    return names


def reason_for(path: str, name: str) -> str:
    """Return why a picture's name in the dataset is not that of its path."""
    if name == unicodedata.normalize("NFC", path.rpartition("/")[2]):
        return (
            "since its accents are characters of their own (Unicode NFD, as macOS writes), which other disks tell apart"
        )
    return "since its name is taken or not safe on every disk"


def fold(path: str) -> str:
    """Return a key that is equal for names that collide on a case-insensitive or Unicode-normalising file system."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


def stem_key(name: str) -> str:
    """Return `fold` of a name without its suffix: pictures with equal keys would share a label file."""
    return fold(name.rpartition(".")[0])


def shown(path: str) -> str:
    """Return a path with unprintable characters replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in path)


def _safe(path: str) -> str:
    name = unicodedata.normalize("NFC", path.rpartition("/")[2])
    name = "".join(letter if letter.isprintable() else "_" for letter in _UNSAFE.sub("_", name))
    stem, _, suffix = name.rpartition(".")
    stem = stem.strip(" .")
    name = f"{'_' if not stem or _DEVICE.fullmatch(stem) else ''}{stem}.{suffix}"
    return name if len(name.encode()) <= MAX_BYTES else _marked(name, path, 8)


def _marked(name: str, path: str, digits: int) -> str:
    stem, _, suffix = name.rpartition(".")
    mark = f"-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:digits]}.{suffix}"
    return stem.encode()[: MAX_BYTES - len(mark.encode())].decode(errors="ignore").rstrip(" .") + mark
