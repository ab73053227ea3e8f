"""Datasets whose boxes are in pixels, in JSON or XML: COCO and Pascal VOC are read; other formats are named.

COCO: https://cocodataset.org/#format-data, one file for all pictures or for each part (CVAT, Roboflow).
Pascal VOC: one XML file for each picture, as in http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf; corners
are taken as edges, 0 to the picture's width, which is what most tools write. Libraries read these too, but bring
hundreds of megabytes, and say nothing of what they leave out.
"""

import json
import re
import warnings
from collections import defaultdict
from collections.abc import Callable
from posixpath import dirname
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from PIL import Image

from runner.config.schema import PARTS
from runner.dataset.classes import check_classes
from runner.dataset.data_yaml import PART_KEYS
from runner.dataset.files import DatasetFiles, is_picture
from runner.dataset.names import fold, shown
from runner.dataset.unread import refuse_json, refuse_xml
from runner.errors import DatasetError

Box = tuple[str, float, float, float, float]  # class name, x1 y1 x2 y2 in pixels
_SIZE_TOLERANCE = 0.01  # [share] by which a picture's shape may differ from the shape that its labels are for
_EXIF_ORIENTATION = 0x0112
_ENCODING = re.compile(rb"""^<\?xml[^>]*?encoding=["']([\w.:-]+)["'][^>]*\?>""")
_AGAINST, _UNSAID, _AGREES = range(3)  # whether folders and parts say that a label file is that of a picture


class _Described(NamedTuple):
    """What a label file says of one picture, or of another of the same name."""

    source: str  # the label file
    name: str  # of the picture, as a file of COCO writes it; or the file of Pascal VOC itself
    fit: tuple[int, bool]  # _AGAINST, _UNSAID or _AGREES; whether the name is spelled like the picture's
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


_Found = dict[str, list[_Described]]  # by picture


def read_foreign(files: DatasetFiles) -> list[str] | None:
    """Read a dataset of COCO or Pascal VOC; return its class names in id order, or None if it is neither.

    Fills `parts`, `texts` and `sources` of the files. DatasetError for a format that is known and not read.
    """
    coco = {file: content for file in files.files if (content := _load_coco(files, file)) is not None}
    found, names = _read_coco(files, coco) if coco else _read_voc(files)
    if not found and (coco or files.lost):
        raise DatasetError(
            f"{next(iter(files.lost), shown(next(iter(coco), '')))}: not one picture has labels that can be read, "
            "expected the pictures and their labels: export it with its pictures"
        )
    if not found:
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
    files.described.update(coco, (each.source for described in found.values() for each in described))
    return classes


def _own(files: DatasetFiles, found: _Found) -> _Found:
    """Return what is said of each picture, without what is said of others of the same name, which is lost.

    Where the folders or parts in a label file agree with some pictures, one that they are against is another picture.
    Of several label files the nearest counts; where these name different pictures, none does.
    """
    telling = {each.group for described in found.values() for each in described if each.fit[0] == _AGREES}
    own = {}
    for picture, described in found.items():
        known = [each for each in described if each.fit[0] != _AGAINST or each.group not in telling]
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


def _read_coco(files: DatasetFiles, contents: dict[str, dict[str, Any]]) -> tuple[_Found, list[str]]:
    found, pictures = _Found(), _by(files, _name)
    categories: dict[str, int] = {}
    used = set()
    for file, content in contents.items():
        part = _part_of(file)
        names = {str(each["id"]): str(each["name"]).strip() for each in content["categories"]}
        for number in sorted(names, key=_in_order):
            categories.setdefault(names[number], len(categories))
        of_picture = defaultdict(list)
        for annotation in content["annotations"]:
            of_picture[str(annotation["image_id"])].append(annotation)
        for image in content["images"]:
            annotations = of_picture.pop(str(image["id"]), [])
            name = str(image["file_name"]).replace("\\", "/").strip("/")
            where = f"{shown(file)}: {shown(name)}"
            picture = _locate(pictures, name, dirname(file), part)
            if picture is None:
                files.lose(f"{where}: no picture of this name, or several", len(annotations))
                continue
            boxes, lost = [], 0
            for annotation in annotations:
                corners, category = _coco_corners(annotation), names.get(str(annotation.get("category_id")))
                if corners is None or category is None:
                    files.lose(f"{where}: annotation {annotation.get('id')}: no box of a category", 1)
                    lost += 1
                elif annotation.get("iscrowd"):
                    files.notes.append(f"{where}: annotation {annotation.get('id')}: a crowd, left out")
                else:
                    boxes.append((category, *corners))
                    used.add(category)
            fit = _fit(picture, name, part)
            shape = _number(image.get("width")), _number(image.get("height"))
            found.setdefault(picture, []).append(_Described(file, name, fit, part, boxes, lost, shape))
        for number, annotations in of_picture.items():
            files.lose(f"{shown(file)}: image_id {number}: no such image", len(annotations))
        for group in {str(each.get("supercategory")) for each in content["categories"]} & categories.keys() - used:
            del categories[group]  # Roboflow lists the group of all classes as the first class
            files.notes.append(f"{shown(file)}: {group} is a group of classes and has no boxes, so it is no class")
    return found, list(categories)


def _fit(picture: str, name: str, part: str | None) -> tuple[int, bool]:
    """Return how well a picture fits a name in a file of COCO: by the folders in it, or else by the file's part."""
    exact = _name(picture) == _name(name)
    if "/" in name and fold(f"/{picture}").endswith(fold(f"/{unquote(name)}")):
        return _AGREES, exact
    own = _part_of(picture)
    if "/" in name or (part and own and part != own):
        return _AGAINST, exact
    return _AGREES if part and part == own else _UNSAID, exact


def _in_order(number: str) -> tuple[bool, int, str]:
    """Return the key that sorts ids as numbers, where they are, and others after them."""
    is_number = bool(re.fullmatch(r"-?\d{1,18}", number))
    return not is_number, int(number) if is_number else 0, number


def _number(value: object) -> float:
    """Return a width or height; 0 for none."""
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if 0 < number < float("inf") else 0.0


def _coco_corners(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """Return the box of an annotation, or that around its polygons; None if it has neither."""
    try:
        if box := annotation.get("bbox"):
            x, y, w, h = map(float, box)
            return x, y, x + w, y + h
        polygons = [list(map(float, polygon)) for polygon in annotation.get("segmentation") or []]
        xs, ys = ([number for polygon in polygons for number in polygon[axis::2]] for axis in (0, 1))
        return (min(xs), min(ys), max(xs), max(ys)) if xs else None
    except (TypeError, ValueError):
        return None


def _read_voc(files: DatasetFiles) -> tuple[_Found, list[str]]:
    found, pictures, stems = _Found(), _by(files, _name), _by(files, _stem)
    parts = _voc_parts(files)
    for file in files.files:
        if not file.lower().endswith(".xml"):
            continue
        stem = _stem(file)
        root = _load_xml(files, file, expected=_key(stem) in stems)
        if root is None:
            continue
        objects = root.findall("object")
        name = (root.findtext("filename") or stem).replace("\\", "/").strip("/")
        picture = _locate(stems, stem, dirname(file), None) or _locate(pictures, name, dirname(file), None)
        if picture is None:
            files.lose(f"{shown(file)}: there is no picture {shown(name)}, or several", len(objects))
            continue
        boxes = []
        for number, each in enumerate(objects, start=1):
            try:
                x1, y1, x2, y2 = (float(each.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
            except ValueError:
                files.lose(f"{shown(file)}: object {number}: no bndbox with xmin, ymin, xmax, ymax", 1)
                continue
            class_name = str(each.findtext("name", "")).strip()
            if not class_name:
                files.lose(f"{shown(file)}: object {number}: no name, expected that of its class", 1)
                continue
            if x1 > x2 or y1 > y2:
                x1, x2, y1, y2 = *sorted((x1, x2)), *sorted((y1, y2))
                files.notes.append(f"{shown(file)}: object {number}: its corners are swapped")
            boxes.append((class_name, x1, y1, x2, y2))
        shape = _number(root.findtext("size/width")), _number(root.findtext("size/height"))
        fit = _fit_of_folders(picture, file), _stem(picture) == stem
        part = parts.get(stem) or _part_of(file)
        found.setdefault(picture, []).append(_Described(file, file, fit, part, boxes, len(objects) - len(boxes), shape))
    return found, sorted({box[0] for described in found.values() for each in described for box in each.boxes})


def _fit_of_folders(picture: str, file: str) -> int:
    """Return how well a picture fits a file of Pascal VOC: by the folders in which both are, or by their parts."""
    ours, theirs = dirname(picture).split("/"), dirname(file).split("/")
    while ours and theirs and ours[0] == theirs[0]:
        del ours[0], theirs[0]
    if ours == theirs:
        return _AGREES
    inner, other = ours[1:], theirs[1:]  # without JPEGImages and Annotations
    parts = _part_of(picture), _part_of(file)
    if (inner and other and inner != other) or (all(parts) and parts[0] != parts[1]):
        return _AGAINST
    return _AGREES if (inner and inner == other) or (all(parts) and parts[0] == parts[1]) else _UNSAID


def _voc_parts(files: DatasetFiles) -> dict[str, str]:
    """Return the part of each stem that a list in ImageSets/Main names."""
    parts = {}
    for file in files.files:
        name = file.rpartition("/")[2].lower()
        if dirname(file).endswith("ImageSets/Main") and (part := PART_KEYS.get(name.removesuffix(".txt"))):
            lines = files.read(file).decode("utf-8-sig", errors="replace").splitlines()
            parts.update({line.split()[0]: part for line in lines if line.strip()})
    return parts


def _load_coco(files: DatasetFiles, file: str) -> dict[str, Any] | None:
    """Return the content of a COCO file; None for another file. DatasetError for another known format."""
    if not file.lower().endswith(".json"):
        return None
    text = (files.folder / file).read_bytes()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        labels = max(text.count(b'"image_id"'), text.count(b'"file_name"'))
        files.described.add(file)
        files.lose(f"{shown(file)}: cannot be read as JSON ({error})", labels)
        return None
    if isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        needed = {"images": {"id", "file_name"}, "categories": {"id", "name"}, "annotations": {"image_id"}}
        for key, fields in needed.items():
            if not all(isinstance(each, dict) and fields <= each.keys() for each in content[key]):
                lacking = " or no ".join(sorted(fields))
                raise DatasetError(f"{shown(file)}: like COCO, but one of its {key} has no {lacking}; export it again")
        return content
    refuse_json(file, content)
    return None


def _load_xml(files: DatasetFiles, file: str, *, expected: bool) -> ElementTree.Element | None:
    """Return the content of a Pascal VOC file; None for another file. DatasetError for CVAT's own.

    What is `expected`, as there is a picture of its name, and cannot be read is lost.
    """
    content = (files.folder / file).read_bytes()
    reason = ""
    try:
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # entities may grow without end
            reason = "it has a document type, which is not read; remove these lines"
        else:
            root = _parse_xml(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        reason = f"cannot be read as XML ({error})"
    if reason:
        files.described.add(file)
        files.lose(f"{shown(file)}: {reason}", max(content.count(b"<object"), int(expected)))
        return None
    refuse_xml(file, root)
    return root if root.tag == "annotation" else None


def _parse_xml(content: bytes) -> ElementTree.Element:
    """Parse XML in any encoding that Python knows; ElementTree itself knows none of Chinese or Japanese."""
    try:
        return ElementTree.fromstring(content)
    except (LookupError, ValueError):
        if not (declared := _ENCODING.match(content)):
            raise
        return ElementTree.fromstring(content[declared.end() :].decode(declared[1].decode()))


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return _name(path).rpartition(".")[0]


def _key(name: str) -> str:
    """Return a name without differences of spelling."""
    return fold(unquote(name))


def _by(files: DatasetFiles, name_of: Callable[[str], str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for picture in filter(is_picture, files.files):
        found[_key(name_of(picture))].append(picture)
    return found


def _locate(pictures: dict[str, list[str]], name: str, folder: str, part: str | None) -> str | None:
    """Return the one picture of a name that spelling, its path, the label file's folder, or its part tells apart."""
    found = pictures.get(_key(_name(name)), [])
    for closer in (
        lambda path: _name(name) in (_name(path), _stem(path)),
        lambda path: f"/{path}".endswith(f"/{name}") or "/" not in name,
        lambda path: dirname(path) == folder,
        lambda path: part is not None and _part_of(path) == part,
        lambda path: dirname(dirname(path)) == dirname(folder),
    ):
        if len(found) > 1:
            found = list(filter(closer, found)) or found
    return found[0] if len(found) == 1 else None


def _part_of(path: str) -> str | None:
    """Return the part that a file's name or its folders tell, the nearest first: instances_train2017.json."""
    for name in reversed(path.lower().rpartition(".")[0].split("/")):
        for word in re.findall("[a-z]+", name):
            if word in PART_KEYS:
                return PART_KEYS[word]
    return None


def _shape(files: DatasetFiles, picture: str, declared: tuple[float, float]) -> tuple[float, float] | str:
    """Return the width and height that boxes in pixels are for, or why these are not the picture's."""
    try:
        with warnings.catch_warnings(), Image.open(files.folder / picture) as image:
            warnings.simplefilter("ignore")  # about large pictures or odd metadata
            turned = stored = image.size
            if image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8):
                turned = stored[::-1]
                if image.format == "TIFF":  # Pillow gives the size of the turned picture
                    turned, stored = stored, turned
    except PermissionError:
        raise
    except Exception:  # noqa: BLE001 - Pillow's errors on damaged bytes have no common base; `prepare` reports them
        return declared if min(declared) > 0 else (1.0, 1.0)
    width, height = declared
    if min(declared) <= 0:
        return turned
    if not _is_alike(declared, turned) and _is_alike(declared, stored):
        files.notes.append(
            f"{shown(picture)}: its labels are of the picture before EXIF turns it: add with `--exif-boxes stored`"
        )
    if _is_alike(declared, turned) or _is_alike(declared, stored):
        return declared
    return f"its labels are for {width:g}x{height:g} pixels, but it has {turned[0]}x{turned[1]}"


def _is_alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two sizes have the same shape."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _SIZE_TOLERANCE


def _line(class_id: int, box: Box, shape: tuple[float, float]) -> str:
    (_, x1, y1, x2, y2), (width, height) = box, shape
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{class_id} {' '.join(f'{number:.9g}' for number in numbers)}\n"
