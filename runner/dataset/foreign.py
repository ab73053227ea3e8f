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
from dataclasses import dataclass, field
from posixpath import dirname
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from runner.dataset.classes import check_classes
from runner.dataset.data_yaml import PART_KEYS
from runner.dataset.files import DatasetFiles, is_picture
from runner.dataset.names import shown
from runner.errors import DatasetError

Box = tuple[str, float, float, float, float]  # class name, x1 y1 x2 y2 in pixels
_SIZE_TOLERANCE = 0.01  # [share] by which a picture's shape may differ from the shape that its labels are for
_EXIF_ORIENTATION = 0x0112
_OTHERS = {
    "Label Studio's JSON": "in Label Studio, choose the export 'YOLO with Images'",
    "Datumaro": "`datum convert -f yolo_ultralytics --save-media` makes a dataset of it",
    "FiftyOne": "export it with dataset_type=fo.types.YOLOv5Dataset",
    "LabelMe": "`labelme2yolo --json_dir` makes a dataset of it",
    "VGG Image Annotator": "choose its export as COCO",
    "CreateML": "choose the export as YOLO or COCO",
    "CVAT for images": "in CVAT, choose the export 'Ultralytics YOLO Detection', with images",
}


@dataclass
class _Annotated:
    """Boxes of the pictures that label files name."""

    boxes: dict[str, list[Box]] = field(default_factory=dict)  # by picture
    shapes: dict[str, tuple[float, float]] = field(default_factory=dict)  # picture → width, height that they are for
    sources: dict[str, str] = field(default_factory=dict)  # picture → its label file
    parts: dict[str, str | None] = field(default_factory=dict)  # picture → train, val, test, or None


def read_foreign(files: DatasetFiles) -> list[str] | None:
    """Read a dataset of COCO or Pascal VOC; return its class names in id order, or None if it is neither.

    Fills `parts`, `texts` and `sources` of the files. DatasetError for a format that is known and not read.
    """
    coco = {file: content for file in files.files if (content := _load_coco(files, file)) is not None}
    found, names = _read_coco(files, coco) if coco else _read_voc(files)
    if not found.sources and (coco or files.lost):
        raise DatasetError(
            f"{next(iter(files.lost), shown(next(iter(coco), '')))}: not one picture that the labels name is there, "
            "expected them in the dataset: export it with its pictures"
        )
    if not found.sources:
        return None
    classes = check_classes(names, shown(next(iter(found.sources.values()))))
    for picture, boxes in found.boxes.items():
        shape = _shape(files, picture, found.shapes[picture])
        source = shown(found.sources[picture])
        if isinstance(shape, str):
            files.described.add(picture)
            files.lose(f"{source}: {shown(picture)}: {shape}", len(boxes))
            continue
        files.parts[picture] = found.parts[picture]
        files.sources[picture] = found.sources[picture]
        files.texts[picture] = "".join(_line(classes.index(box[0]), box, shape) for box in boxes).encode()
    files.described.update(found.sources.values())
    return classes


def _read_coco(files: DatasetFiles, contents: dict[str, dict[str, Any]]) -> tuple[_Annotated, list[str]]:
    found, pictures = _Annotated(), _by_name(files)
    categories: dict[str, int] = {}
    used = set()
    for file, content in contents.items():
        part = _part_of(file)
        names = {each["id"]: str(each["name"]).strip() for each in content["categories"]}
        for number in sorted(names):
            categories.setdefault(names[number], len(categories))
        of_picture = defaultdict(list)
        for annotation in content["annotations"]:
            of_picture[annotation["image_id"]].append(annotation)
        for image in content["images"]:
            annotations = of_picture.pop(image["id"], [])
            name = str(image["file_name"])
            where = f"{shown(file)}: {shown(name)}"
            picture = _locate(pictures, name, dirname(file), part)
            if picture is None:
                files.lose(f"{where}: no picture of this name, or several", len(annotations))
                continue
            boxes = found.boxes.setdefault(picture, [])
            for annotation in annotations:
                corners = _coco_corners(annotation)
                if corners is None or annotation.get("category_id") not in names:
                    files.lose(f"{where}: annotation {annotation.get('id')}: no box of a category", 1)
                elif annotation.get("iscrowd"):
                    files.notes.append(f"{where}: annotation {annotation.get('id')}: a crowd, left out")
                else:
                    boxes.append((names[annotation["category_id"]], *corners))
                    used.add(names[annotation["category_id"]])
            found.shapes[picture] = (image.get("width") or 0, image.get("height") or 0)
            found.sources[picture], found.parts[picture] = file, part
        for number, annotations in of_picture.items():
            files.lose(f"{shown(file)}: image_id {number}: no such image", len(annotations))
        for group in {str(each.get("supercategory")) for each in content["categories"]} & categories.keys() - used:
            del categories[group]  # Roboflow lists the group of all classes as the first class
            files.notes.append(f"{shown(file)}: {group} is a group of classes and has no boxes, so it is no class")
    return found, list(categories)


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


def _read_voc(files: DatasetFiles) -> tuple[_Annotated, list[str]]:
    found, pictures, stems = _Annotated(), _by_name(files), _by_stem(files)
    parts = _voc_parts(files)
    for file in files.files:
        if not file.lower().endswith(".xml") or (root := _load_xml(files, file)) is None:
            continue
        stem = file.rpartition("/")[2].rpartition(".")[0]
        objects = root.findall("object")
        name = root.findtext("filename") or stem
        picture = _locate(stems, stem, dirname(file), None) or _locate(pictures, name, dirname(file), None)
        if picture is None:
            files.lose(f"{shown(file)}: there is no picture {shown(name)}, or several", len(objects))
            continue
        boxes = found.boxes.setdefault(picture, [])
        for number, each in enumerate(objects, start=1):
            try:
                x1, y1, x2, y2 = (float(each.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
                boxes.append((str(each.findtext("name", "")).strip(), x1, y1, x2, y2))
            except ValueError:
                files.lose(f"{shown(file)}: object {number}: no bndbox with xmin, ymin, xmax, ymax", 1)
        try:
            width, height = (float(root.findtext(f"size/{key}", "0")) for key in ("width", "height"))
        except ValueError:
            width = height = 0.0
        found.shapes[picture], found.sources[picture] = (width, height), file
        found.parts[picture] = parts.get(stem) or _part_of(file)
    return found, sorted({name for boxes in found.boxes.values() for name, *_ in boxes})


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
    try:
        content = json.loads((files.folder / file).read_bytes())
    except (ValueError, RecursionError):
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
    if kind := _kind_of(content):
        raise _named(file, kind)
    return None


def _kind_of(content: object) -> str | None:
    """Return the format of a JSON file that is not read."""
    kinds = {
        "Datumaro": ("items", "categories"),
        "FiftyOne": ("classes", "labels"),
        "LabelMe": ("shapes", "imagePath"),
        "VGG Image Annotator": ("_via_img_metadata",),
        "Label Studio's JSON": ("data", "annotations"),
        "Label Studio's JSON ": ("annotation_id", "lead_time"),
        "CreateML": ("image", "annotations"),
    }
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return None
    if isinstance(first.get("samples"), list):
        return "FiftyOne"
    return next((kind.strip() for kind, keys in kinds.items() if all(key in first for key in keys)), None)


def _load_xml(files: DatasetFiles, file: str) -> ElementTree.Element | None:
    """Return the content of a Pascal VOC file; None for another file. DatasetError for CVAT's own."""
    content = (files.folder / file).read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # entities may grow without end
        return None
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        return None
    if root.tag == "annotations" and root.find("image") is not None:
        raise _named(file, "CVAT for images")
    return root if root.tag == "annotation" else None


def _named(file: str, kind: str) -> DatasetError:
    return DatasetError(f"{shown(file)}: a dataset of {kind}, which is not read; {_OTHERS[kind]}")


def _by_name(files: DatasetFiles) -> dict[str, list[str]]:
    found = defaultdict(list)
    for picture in filter(is_picture, files.files):
        found[picture.rpartition("/")[2]].append(picture)
    return found


def _by_stem(files: DatasetFiles) -> dict[str, list[str]]:
    found = defaultdict(list)
    for picture in filter(is_picture, files.files):
        found[picture.rpartition("/")[2].rpartition(".")[0]].append(picture)
    return found


def _locate(pictures: dict[str, list[str]], name: str, folder: str, part: str | None) -> str | None:
    """Return the one picture of a name that its path, the label file's folder, or its part tells from others."""
    name = name.replace("\\", "/").strip("/")
    found = pictures.get(name.rpartition("/")[2], [])
    for closer in (
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
            stored = image.size
            turned = stored[::-1] if image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8) else stored
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
