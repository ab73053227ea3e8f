"""COCO: one JSON file for all pictures, or for each part (CVAT, Roboflow); other known formats of JSON are named.

Format: https://cocodataset.org/#format-data
"""

import json
import re
from collections import defaultdict
from posixpath import basename, dirname
from typing import Any
from urllib.parse import unquote

from runner.dataset.files import DatasetFiles
from runner.dataset.foreign import (
    AGAINST,
    AGREES,
    UNSAID,
    Described,
    Found,
    locate,
    number_of,
    part_of,
    pictures_by,
    take_labels,
)
from runner.dataset.names import fold, shown
from runner.dataset.unread import refuse_json
from runner.errors import DatasetError

_NEEDED = {"images": {"id", "file_name"}, "categories": {"id", "name"}, "annotations": {"image_id"}}


def read_coco(files: DatasetFiles) -> list[str] | None:
    """Read a dataset of COCO, as `take_labels`; DatasetError for JSON of a format that is known and not read."""
    contents = {file: content for file in files.files if (content := _load(files, file)) is not None}
    if not contents:
        return None
    found, pictures = Found(), pictures_by(files, basename)
    categories: dict[str, int] = {}
    used = set()
    for file, content in contents.items():
        part = part_of(file)
        names = _by_id(content["categories"], "name", shown(file))
        _by_id(content["images"], "file_name", shown(file))
        for number in sorted(names, key=_in_order):
            categories.setdefault(names[number], len(categories))
        of_picture = defaultdict(list)
        for annotation in content["annotations"]:
            of_picture[_id(annotation["image_id"])].append(annotation)
        for image in content["images"]:
            annotations = of_picture.pop(_id(image["id"]), [])
            name = str(image["file_name"]).replace("\\", "/").strip("/")
            where = f"{shown(file)}: {shown(name)}"
            picture = locate(pictures, name, dirname(file), part)
            if picture is None:
                files.lose(f"{where}: no picture of this name, or several", len(annotations))
                continue
            boxes, lost = [], 0
            for annotation in annotations:
                corners, category = _corners(annotation), names.get(_id(annotation.get("category_id")))
                if corners is None or category is None:
                    files.lose(f"{where}: annotation {annotation.get('id')}: no box of a category", 1)
                    lost += 1
                elif annotation.get("iscrowd"):
                    files.notes.append(f"{where}: annotation {annotation.get('id')}: a crowd, left out")
                    lost += 1  # a picture of crowds alone is no background
                else:
                    boxes.append((category, *corners))
                    used.add(category)
            fit = _fit(picture, name, part), basename(picture) == basename(name)
            shape = number_of(image.get("width")), number_of(image.get("height"))
            found.setdefault(picture, []).append(Described(file, name, fit, part, boxes, lost, shape))
        for number, annotations in of_picture.items():
            files.lose(f"{shown(file)}: image_id {number}: no such image", len(annotations))
        for group in {str(each.get("supercategory")) for each in content["categories"]} & categories.keys() - used:
            del categories[group]  # Roboflow lists the group of all classes as the first class
            files.notes.append(f"{shown(file)}: {group} is a group of classes and has no boxes, so it is no class")
    return take_labels(files, found, list(categories), contents)


def _id(value: object) -> str:
    """Return an id as text; a table program makes 7.0 of 7 in one column and not in the other."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _by_id(entries: list[dict[str, Any]], key: str, where: str) -> dict[str, str]:
    """Return id → text of a key; DatasetError for an id of two, as the annotations do not say which one they mean."""
    found: dict[str, str] = {}
    for each in entries:
        text = str(each[key]).strip()
        if (other := found.setdefault(_id(each["id"]), text)) != text:
            raise DatasetError(
                f"{where}: id {each['id']} is of {shown(other)} and of {shown(text)}, expected an id for each; "
                "were several files joined? add their parts one by one, or give them new ids"
            )
    return found


def _fit(picture: str, name: str, part: str | None) -> int:
    """Return how well a picture fits a name in a label file: by the folders in it, or else by the file's part."""
    if "/" in name:
        return AGREES if fold(f"/{picture}").endswith(fold(f"/{unquote(name)}")) else AGAINST
    own = part_of(picture)
    return UNSAID if not part or not own else AGREES if part == own else AGAINST


def _in_order(number: str) -> tuple[bool, int, str]:
    """Return the key that sorts ids as numbers, where they are, and others after them."""
    is_number = bool(re.fullmatch(r"-?\d{1,18}", number))
    return not is_number, int(number) if is_number else 0, number


def _corners(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
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


def _load(files: DatasetFiles, file: str) -> dict[str, Any] | None:
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
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _NEEDED):
        refuse_json(file, content)
        return None
    for key, fields in _NEEDED.items():
        if not all(isinstance(each, dict) and fields <= each.keys() for each in content[key]):
            lacking = " or no ".join(sorted(fields))
            raise DatasetError(f"{shown(file)}: like COCO, but one of its {key} has no {lacking}; export it again")
    return content
