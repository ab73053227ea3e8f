"""Files of a dataset on disk, and the label file of each picture.

Links are followed inside the folder alone, so nothing outside of it is read.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from posixpath import dirname
from urllib.parse import unquote

from runner.dataset.data_yaml import find_place
from runner.dataset.labels import count_label_lines
from runner.dataset.names import fold, shown

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
    files: list[str]  # sorted, without links out of the folder, hidden files and system files (of macOS, Windows)
    ignored: list[str]  # `file: reason` for each file left out; system files are not listed
    root: str = ""  # folder that holds the dataset
    parts: dict[str, str | None] = field(default_factory=dict)  # picture → train, val, test, or None: no parts
    described: set[str] = field(default_factory=set)  # files that describe the dataset: class list, notes, lists
    notes: list[str] = field(default_factory=list)  # values read differently from how they are written
    texts: dict[str, bytes] = field(default_factory=dict)  # picture → its labels as YOLO's, if in another format
    sources: dict[str, str] = field(default_factory=dict)  # picture → the file of these labels
    lost: dict[str, int] = field(default_factory=dict)  # message → labels that belong to no picture, at least one
    unnamed_places: list[str] = field(default_factory=list)  # keys of data.yaml whose pictures get no part, and why

    def __post_init__(self) -> None:
        self.plain = frozenset(self.files)
        self.known = set(self.files)
        for file in self.files:
            while (file := dirname(file)) not in self.known:
                self.known.add(file)

    @cached_property
    def spelled(self) -> dict[str, str]:
        """`fold` of each known path → the path, where only one path has it."""
        count = Counter(map(fold, self.known))
        return {key: path for path in self.known if count[key := fold(path)] == 1}

    def find(self, path: str) -> str | None:
        """Return an existing file or folder as it is spelled on disk, such as Labels/ for labels/; None if missing."""
        return path if path in self.known else self.spelled.get(fold(path))

    def at_root(self, name: str) -> str:
        """Return the path of a file in the dataset's root, as it is spelled on disk if it exists."""
        path = f"{self.root}/{name}" if self.root else name
        return self.find(path) or path

    def find_place(self, place: str, bases: list[str]) -> str | None:
        """Return the file or folder that a text of data.yaml or of a list names, as `data_yaml.find_place` does."""
        exact = find_place(place, bases, self.known)
        if exact is not None:
            return exact
        found = find_place(fold(place), list(map(fold, bases)), self.spelled)
        return None if found is None else self.spelled[found]

    def read(self, path: str) -> bytes:
        """Read a file that describes the dataset."""
        self.described.add(path)
        return (self.folder / path).read_bytes()

    def lose(self, message: str, labels: int) -> None:
        """Note labels that belong to no picture."""
        if labels:
            self.lost[message] = labels
        else:
            self.ignored.append(message)

    @property
    def left_out(self) -> dict[str, str]:
        """Label places of the pictures that no part of the dataset names → the picture."""
        pictures = [file for file in self.files if is_picture(file) and file not in self.parts]
        return {place: picture for picture in pictures for place in label_places(picture)}

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
            path = self.find_place(line, [*bases, dirname(listing)])
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
    top = folder.resolve()
    waiting = [(folder, [top])]  # a folder, and the real places of it and the folders around it
    while waiting:
        here, around = waiting.pop()
        for path in here.iterdir():
            inside = path.relative_to(folder).as_posix()
            reason = _reason_to_skip(path, around, top)
            if reason:
                ignored.append(f"{shown(inside)}: {reason}")
            elif reason is None and path.is_dir():
                waiting.append((path, [*around, path.resolve() if path.is_symlink() else around[-1] / path.name]))
            elif reason is None:
                files.append(inside)
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
    last = _last(folders, ["images"])
    if last is None:
        return [beside]
    folders[last] = "labels"
    return ["/".join([*folders, name]), beside]


def match_labels(files: DatasetFiles) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return the label file of each picture of the dataset, and why each other label file belongs to none.

    Label files that do not stand where `label_places` expects them are matched by their path but for spelling
    (percent-encoding, Unicode form, case: exports from macOS, Windows and web servers), then by their name below the
    same labels/ (a folder for each annotator), then by their name alone; each only where exactly one picture and one
    label file have it. Every such match is noted.
    """
    labels = {
        path: files.sources.get(path) or next((file for file in label_places(path) if file in files.plain), None)
        for path in files.parts
    }
    taken = files.described.union(filter(None, labels.values()))
    others = files.described.union(files.left_out)
    texts = [file for file in files.files if file.lower().endswith(".txt") and file not in others]
    spare = {
        file: "expected one of this name in images/"
        for file in texts
        if file not in taken and ("labels" in dirname(file).lower().split("/") or label_lines(files, file))
    }
    for keys in (_places, _roots, _stems) if spare else ():
        pictures, candidates = _by_key(labels, keys), _by_key(texts, keys)
        for label in spare:
            own, rivals = (
                [file for key in keys(label) for file in found.get(key, [])] for found in (pictures, candidates)
            )
            if not own:
                continue
            name = shown(own[0])
            if len(own) > 1:
                spare[label] = f"it could belong to {name} or to {shown(own[1])}"
            elif labels[own[0]] is not None:
                spare[label] = f"{name} has {shown(str(labels[own[0]]))} already"
            elif len(rivals) > 1:
                spare[label] = f"{name} could have {' or '.join(map(shown, rivals[:3]))}"
            else:
                labels[own[0]] = label
                files.notes.append(f"{shown(label)}: read as the labels of {name}")
        matched = set(labels.values())
        spare = {label: reason for label, reason in spare.items() if label not in matched}
    return labels, spare


def label_lines(files: DatasetFiles, path: str) -> int:
    """Return the number of label lines in a text file, right or wrong."""
    return count_label_lines((files.folder / path).read_bytes())


def _by_key(paths: Iterable[str], keys: Callable[[str], list[str]]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in paths:
        for key in keys(path):
            found[key].append(path)
    return found


def _places(path: str) -> list[str]:
    """Return the places of a picture's label file, or of a label file itself, but for spelling."""
    return [_loose(place) for place in (label_places(path) if is_picture(path) else [path])]


def _roots(path: str) -> list[str]:
    """Return the folder that holds images/ or labels/, with the name of the file."""
    *folders, name = _loose(path).split("/")
    last = _last(folders, ["images", "labels"])
    if last is None and not is_picture(path):
        return []
    return ["/".join([*folders[:last], name])]


def _stems(path: str) -> list[str]:
    return [_loose(path).rpartition("/")[2]]


def _loose(path: str) -> str:
    """Return a path without its suffix and without differences of spelling."""
    stem = path.rpartition(".")[0]
    if is_picture(stem) and not is_picture(path):  # a.jpg.txt, the labels of a.jpg
        stem = stem.rpartition(".")[0]
    return fold(unquote(stem))


def _last(folders: list[str], names: list[str]) -> int | None:
    """Return the place of the last folder that has one of the names, in any case; None if none has."""
    return max((place for place, folder in enumerate(folders) if folder.lower() in names), default=None)


def _reason_to_skip(path: Path, around: list[Path], top: Path) -> str | None:
    """Return why a file or folder is left out; empty: left out without a note; None: kept.

    `around` are the real folders that lead to it, from `top`, the dataset's own.
    """
    if path.name in _SYSTEM_FILES or path.name.startswith("._"):
        return ""
    if path.name.startswith("."):
        return "hidden, so no part of the dataset"
    if path.is_symlink():
        target = path.resolve()
        if not target.exists():
            return f"a link to {shown(str(target))}, which does not exist"
        if not target.is_relative_to(top):
            return (
                f"a link out of the dataset, to {shown(str(target))}, which is not followed; copy the dataset with "
                "`cp -rL`, or add the folder that holds both"
            )
        if target in around:
            return "a link to a folder around it, which is not followed"
    if not path.is_file() and not path.is_dir():
        return "neither a file nor a folder"
    return None
