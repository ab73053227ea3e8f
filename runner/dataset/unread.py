"""Formats of datasets that are known and not read: each is named, with the way to one that is."""

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from runner.dataset.names import shown
from runner.errors import DatasetError

_BY_DATUMARO = "`datum convert -f yolo_ultralytics -- --save-media` (Datumaro) makes a dataset of it that is read"
_BY_TOOL = "export it again, as YOLO for Ultralytics or as COCO's JSON, with its pictures"
_LABEL_STUDIO = "in Label Studio, choose the export 'YOLO with Images'"
_WAYS = {
    "Label Studio's JSON": _LABEL_STUDIO,
    "Datumaro": _BY_DATUMARO,
    "FiftyOne": "export it with dataset_type=fo.types.YOLOv5Dataset",
    "LabelMe": "`labelme2yolo --json_dir` makes a dataset of it",
    "VGG Image Annotator": "choose its export as COCO",
    "CreateML": "choose the export as YOLO or COCO",
    "CVAT for images or video": "in CVAT, choose the export 'Ultralytics YOLO Detection', with images",
    "KITTI": _BY_DATUMARO,
    "Open Images": _BY_DATUMARO,
    "DOTA, of turned boxes": "write an upright box around each into YOLO's label files",
    "MOT, of tracks": _BY_DATUMARO,
    "TFRecord": _BY_TOOL,
    "Ultralytics' NDJSON, which holds addresses of pictures": "`convert_ndjson_to_yolo` of Ultralytics fetches them",
    "Parquet or Arrow, as on Hugging Face": _BY_TOOL,
    "JSON Lines": _BY_TOOL,
    "labels in one text file for all pictures": _BY_TOOL,
    "CSV": _BY_TOOL,
    "Supervisely": _BY_TOOL,
    "V7 Darwin": _BY_TOOL,
    "VoTT": _BY_TOOL,
    "BDD100K": _BY_TOOL,
    "archives in it": "unpack them, and add the folder",
}
_KEYS = {
    "Datumaro": {"items", "categories"},
    "FiftyOne": {"classes", "labels"},
    "LabelMe": {"shapes", "imagePath"},
    "VGG Image Annotator": {"_via_img_metadata"},
    "Label Studio's JSON": {"data", "annotations"},
    "CreateML": {"image", "annotations"},
    "Supervisely": {"objects", "size"},
    "V7 Darwin": {"item", "annotations"},
    "VoTT": {"asset", "regions"},
    "BDD100K": {"name", "labels"},
}
_LABEL_STUDIO_MIN = {"annotation_id", "lead_time"}
_PATHS = {
    r"(.*/)?label_2/[^/]+\.txt": "KITTI",
    r"(.*/)?labelTxt[^/]*/[^/]+\.txt": "DOTA, of turned boxes",
    r"(.*/)?gt/gt\.txt": "MOT, of tracks",
    r".*annotations?-bbox\.csv": "Open Images",
    r".*\.tfrecords?(-\d+-of-\d+)?": "TFRecord",
    r".*\.ndjson": "Ultralytics' NDJSON, which holds addresses of pictures",
    r".*\.(parquet|arrow)": "Parquet or Arrow, as on Hugging Face",
    r".*\.jsonl": "JSON Lines",
    r"(.*/)?_annotations\.txt": "labels in one text file for all pictures",
    r".*\.[ct]sv": "CSV",
    r".*\.(zip|tar|tgz|tar\.\w+|7z|rar)": "archives in it",
}


def refuse_json(file: str, content: object) -> None:
    """Raise DatasetError if the content of a JSON file is of a format that is not read."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return
    if isinstance(first.get("samples"), list):
        raise _named(file, "FiftyOne")
    if first.keys() >= _LABEL_STUDIO_MIN:
        raise _named(file, "Label Studio's JSON")
    if any(isinstance(each, dict) and {"filename", "regions"} <= each.keys() for each in first.values()):
        raise _named(file, "VGG Image Annotator")
    if kind := next((kind for kind, keys in _KEYS.items() if keys <= first.keys()), None):
        raise _named(file, kind)


def refuse_xml(file: str, root: ElementTree.Element) -> None:
    """Raise DatasetError if an XML file is of a format that is not read."""
    if root.tag == "annotations":
        raise _named(file, "CVAT for images or video")


def refuse_path(files: Iterable[str]) -> None:
    """Raise DatasetError if a file's name is that of a format that is not read."""
    for pattern, kind in _PATHS.items():
        if file := next((file for file in files if re.fullmatch(pattern, file, re.IGNORECASE)), None):
            raise _named(file, kind)


def _named(file: str, kind: str) -> DatasetError:
    return DatasetError(f"{shown(file)}: a dataset of {kind}, which is not read; {_WAYS[kind]}")
