"""Labels in pixels, in files that name their pictures: what `coco.py` and `voc.py` share.

A label file says where its picture is in words of another machine, so the picture is looked for among those that are
here; boxes become fractions of it. Libraries read these formats too, but bring hundreds of megabytes, and say nothing
of what they leave out.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from posixpath import basename, dirname
from typing import NamedTuple
from urllib.parse import unquote

from PIL import ExifTags, Image

from runner.config.schema import PARTS
from runner.dataset.classes import check_classes
from runner.dataset.data_yaml import PART_KEYS
from runner.dataset.files import DatasetFiles, is_picture
from runner.dataset.names import fold, shown
from runner.errors import DatasetError

Box = tuple[str, float, float, float, float]  # class name, x1 y1 x2 y2 in pixels
AGAINST, UNSAID, AGREES = range(3)  # whether folders and parts say that a label file is that of a picture
_SIZE_TOLERANCE = 0.01  # [share] by which a picture's shape may differ from the shape that its labels are for


class Described(NamedTuple):
    """What a label file says of one picture, or of another of the same name."""

    source: str  # the label file
    name: str  # of the picture, as a file of COCO writes it; or the file of Pascal VOC itself
    fit: tuple[int, bool]  # AGAINST, UNSAID or AGREES; whether the name is spelled like the picture's
    part: str | None  # train, val, test, or None
    boxes: list[Box]
    lost: int  # labels of the picture that cannot be used
    shape: tuple[float, float]  # width and height that the boxes are for; 0: it does not say

    @property
    def group(self) -> str:
        """Label files of one group are in the folders alike: each of COCO by itself, all of Pascal VOC."""
        return "" if self.name == self.source else self.source

    @property
    def where(self) -> str:
        """Place of the labels, for messages."""
        return shown(self.source) if self.name == self.source else f"{shown(self.source)}: {shown(self.name)}"


Found = dict[str, list[Described]]  # by picture


def take_labels(files: DatasetFiles, found: Found, names: list[str], sources: Iterable[str] = ()) -> list[str] | None:
    """Fill `parts`, `texts` and `sources` of the files; return the class names, or None for no labels of this format.

    `names` are the classes in id order, `sources` label files without which the dataset is not of this format.
    DatasetError: there are label files, and none of them has labels of a picture.
    """
    if not found:
        if where := next(iter([*files.lost, *map(shown, sources)]), None):
            raise DatasetError(
                f"{where}: not one picture has labels that can be read, expected the pictures and their labels: "
                "export it with its pictures"
            )
        return None
    classes = check_classes(names, shown(next(iter(found.values()))[0].source))
    for picture, described in _own(files, found).items():
        last = described[-1]
        boxes = []
        for each in described:
            shape = _shape(files, picture, each.shape)
            if isinstance(shape, str):
                files.described.add(picture)
                files.lose(f"{shown(each.source)}: {shown(picture)}: {shape}", len(each.boxes))
            else:
                boxes += [_line(classes.index(box[0]), box, shape) for box in each.boxes]
        if picture in files.described:
            continue
        if not boxes and any(each.lost for each in described):
            files.described.add(picture)
            files.ignored.append(f"{shown(picture)}: none of its labels can be used")
            continue
        files.parts[picture] = None
        for part in sorted({each.part for each in described if each.part}, key=PARTS.index):
            files.put([picture], part)
        if not last.fit[1]:
            files.notes.append(f"{last.where}: read as the labels of {shown(picture)}")
        files.sources[picture] = last.source
        files.texts[picture] = "".join(boxes).encode()
    files.described.update(sources, (each.source for described in found.values() for each in described))
    return classes


def pictures_by(files: DatasetFiles, name_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Return `spelling` of each picture's name, or of its stem → the pictures that have it."""
    found = defaultdict(list)
    for picture in filter(is_picture, files.files):
        found[spelling(name_of(picture))].append(picture)
    return found


def locate(pictures: dict[str, list[str]], name: str, folder: str, part: str | None) -> str | None:
    """Return the one picture of a name that spelling, its path, the label file's folder, or its part tells apart."""
    found = pictures.get(spelling(basename(name)), [])
    for closer in (
        lambda path: basename(name) in (basename(path), stem_of(path)),
        lambda path: f"/{path}".endswith(f"/{name}") or "/" not in name,
        lambda path: dirname(path) == folder,
        lambda path: part is not None and part_of(path) == part,
        lambda path: dirname(dirname(path)) == dirname(folder),
    ):
        if len(found) > 1:
            found = list(filter(closer, found)) or found
    return found[0] if len(found) == 1 else None


def part_of(path: str) -> str | None:
    """Return the part that a file's name or its folders tell, the nearest first: instances_train2017.json."""
    for name in reversed(path.lower().rpartition(".")[0].split("/")):
        for word in re.findall("[a-z]+", name):
            if word in PART_KEYS:
                return PART_KEYS[word]
    return None


def number_of(value: object) -> float:
    """Return a width or height; 0 for none."""
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if 0 < number < float("inf") else 0.0


def stem_of(path: str) -> str:
    """Return the name of a file without its suffix."""
    return basename(path).rpartition(".")[0]


def spelling(name: str) -> str:
    """Return a name without differences of spelling."""
    return fold(unquote(name))


def _own(files: DatasetFiles, found: Found) -> Found:
    """Return what is said of each picture, without what is said of others of the same name, which is lost.

    Where the folders or parts in a label file agree with some pictures, one that they are against is another picture.
    Of several label files the nearest counts; where these name different pictures, none does.
    """
    telling = {each.group for described in found.values() for each in described if each.fit[0] == AGREES}
    own = {}
    for picture, described in found.items():
        known = [each for each in described if each.fit[0] != AGAINST or each.group not in telling]
        nearest = [each for each in known if each.fit == max(each.fit for each in known)]
        if len({each.name for each in nearest}) > 1:
            nearest = []
        for each in described:
            if each not in nearest:
                reason = f"there is no such picture; {shown(picture)} is another, or it could be one of several"
                files.lose(f"{each.where}: {reason}", len(each.boxes))
        if nearest:
            own[picture] = nearest
    return own


def _shape(files: DatasetFiles, picture: str, declared: tuple[float, float]) -> tuple[float, float] | str:
    """Return the width and height that boxes in pixels are for, or why these are not the picture's."""
    try:
        with warnings.catch_warnings(), Image.open(files.folder / picture) as image:
            warnings.simplefilter("ignore")  # about large pictures or odd metadata
            turned = stored = image.size
            if image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
                turned = stored[::-1]
                if image.format == "TIFF":  # Pillow gives the size of the turned picture
                    turned, stored = stored, turned
    except PermissionError:
        raise
    except Exception:  # noqa: BLE001 - Pillow's errors on damaged bytes have no common base; `prepare` reports them
        return declared if min(declared) > 0 else (1.0, 1.0)
    if min(declared) <= 0:
        return turned
    if _is_alike(declared, turned):
        return declared
    if _is_alike(declared, stored):
        files.notes.append(
            f"{shown(picture)}: its labels are of the picture before EXIF turns it: add with `--exif-boxes stored`"
        )
        return declared
    width, height = declared
    return f"its labels are for {width:g}x{height:g} pixels, but it has {turned[0]}x{turned[1]}"


def _is_alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two sizes have the same shape."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _SIZE_TOLERANCE


def _line(class_id: int, box: Box, shape: tuple[float, float]) -> str:
    (_, x1, y1, x2, y2), (width, height) = box, shape
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{class_id} {' '.join(f'{number:.9g}' for number in numbers)}\n"
