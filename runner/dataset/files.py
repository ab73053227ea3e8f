"""Files of a dataset on disk, and the label file of each picture.

Links are not followed, so nothing outside the folder is read.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname

from runner.dataset.data_yaml import find_place
from runner.dataset.names import shown

# fmt: off
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".jp2", ".j2k", ".avif", ".heic", ".heif", ".ppm", ".pgm",
)
# fmt: on
_SYSTEM_FILES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", ".DS_Store"})


@dataclass
class DatasetFiles:
    """Files below a folder, and their role in the dataset.

    Every path is relative to `folder`, with `/`; the folder itself is the empty text.
    """

    folder: Path
    files: list[str]  # sorted, without links, hidden files and system files (of macOS, Windows)
    ignored: list[str]  # `file: reason` for each file left out; system files are not listed
    root: str = ""  # folder that holds the dataset
    parts: dict[str, str | None] = field(default_factory=dict)  # picture → train, val, test, or None: no parts
    described: set[str] = field(default_factory=set)  # files that describe the dataset: class list, notes, lists
    notes: list[str] = field(default_factory=list)  # values read differently from how they are written

    def __post_init__(self) -> None:
        self.known = set(self.files)
        for file in self.files:
            while (file := dirname(file)) not in self.known:
                self.known.add(file)

    def at_root(self, name: str) -> str:
        """Return the path of a file in the dataset's root."""
        return f"{self.root}/{name}" if self.root else name

    def read(self, path: str) -> bytes:
        """Read a file that describes the dataset."""
        self.described.add(path)
        return (self.folder / path).read_bytes()

    def pictures_below(self, folder: str) -> list[str]:
        """Return the pictures below a folder, at any depth."""
        inside = f"{folder}/" if folder else ""
        return [file for file in self.files if file.startswith(inside) and is_picture(file)]

    def pictures_listed(self, listing: str, bases: list[str]) -> Iterator[str]:
        """Yield the pictures of a list file, one path per line; other lines are added to `ignored`.

        `bases` are folders that its lines may be relative to, in order, before the list's own folder.
        """
        lines = self.read(listing).decode("utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            path = find_place(line, [*bases, dirname(listing)], self.known)
            if path is not None and is_picture(path):
                yield path
            elif line.strip():
                self.ignored.append(f"{shown(listing)}:{number}: {shown(line.strip())} is no picture of the dataset")

    def put(self, pictures: Iterator[str] | list[str], part: str) -> None:
        """Assign pictures to a part, replacing their earlier part."""
        for picture in pictures:
            before = self.parts.get(picture)
            if before not in (None, part):
                self.notes.append(f"{shown(picture)}: named for {before} and for {part}, kept in {part}")
            self.parts[picture] = part


def list_files(folder: Path) -> DatasetFiles:
    """List the files below a folder."""
    files: list[str] = []
    ignored: list[str] = []
    for here, folders, names in os.walk(folder):
        inside = Path(here).relative_to(folder)
        skipped = {
            name: reason for name in folders + names if (reason := _reason_to_skip(Path(here, name))) is not None
        }
        ignored += [f"{shown((inside / name).as_posix())}: {reason}" for name, reason in skipped.items() if reason]
        files += [(inside / name).as_posix() for name in names if name not in skipped]
        folders[:] = [name for name in folders if name not in skipped]
    return DatasetFiles(folder, sorted(files), sorted(ignored))


def is_picture(path: str) -> bool:
    """Whether the suffix is that of a picture; `prepare` checks the content."""
    return path.lower().endswith(PICTURE_SUFFIXES)


def label_places(picture: str) -> list[str]:
    """Return the candidate label files of a picture, the likeliest first.

    The last folder called images is replaced by labels, as in Ultralytics; else the label is beside the picture.
    """
    beside = f"{picture.rpartition('.')[0]}.txt"
    *folders, name = beside.split("/")
    if "images" not in folders:
        return [beside]
    last = len(folders) - 1 - folders[::-1].index("images")
    folders[last] = "labels"
    return ["/".join([*folders, name]), beside]


def _reason_to_skip(path: Path) -> str | None:
    """Return why a file or folder is left out; empty: left out without a note; None: kept."""
    if path.name in _SYSTEM_FILES or path.name.startswith("._"):
        return ""
    if path.is_symlink():
        return "a link, and links are not followed; put the file itself there"
    if path.name.startswith("."):
        return "hidden, so no part of the dataset"
    if not path.is_file() and not path.is_dir():
        return "neither a file nor a folder"
    return None
