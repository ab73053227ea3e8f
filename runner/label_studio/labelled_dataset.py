"""Labelled dataset as Label Studio needs it: each picture with its digest, its boxes and its EXIF orientation.

Boxes of a dataset are in the frame of `prepare.exif_boxes`: of the stored picture, or of the upright picture that a
person sees. Boxes in Label Studio are always in the upright picture.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image

from runner.config.schema import Config
from runner.dataset.labels import parse_labels, turn_boxes
from runner.dataset.layouts import label_content, read_layout
from runner.dataset.versions import fetch_dataset, slug
from runner.errors import NotSetUpError
from runner.label_studio.regions import LabelledBox
from runner.sample import CLASSES
from runner.stages.parallel import threads
from runner.store import Store
from runner.workspace import sha256_of, work_folder

Frame = Literal["stored", "seen"]  # of boxes; `prepare.exif_boxes`


@dataclass(frozen=True)
class LabelledPicture:
    """A picture of a dataset."""

    name: str  # of its file in the dataset
    image: Path
    sha256: str  # of the picture's bytes, in hex
    text: bytes | None  # its label file, byte for byte; None: it has none
    boxes: list[LabelledBox]  # from the label file, in the dataset's frame
    part: str | None  # train, val, test, or None


@dataclass(frozen=True)
class LabelledDataset:
    """A dataset; without pictures before the first one was added."""

    classes: list[str]  # names in id order
    pictures: list[LabelledPicture]  # sorted by name
    about: dict[str, Path]  # name → licence, source and read-me files


def current_dataset(config: Config, store: Store, project: Path, folder: Path) -> LabelledDataset:
    """Return the version in params.yaml, unpacked to a new folder; the generated sample counts as no dataset."""
    if config.dataset.url == "sample":
        return LabelledDataset(config.dataset.classes, [], {})
    fetch_dataset(config.dataset.url, config.dataset.sha256, store, folder, work=work_folder(project))
    return read_dataset(folder)


def read_dataset(folder: Path) -> LabelledDataset:
    """Return a dataset on disk, in any layout that `dataset add` takes."""
    layout = read_layout(folder)
    digests = list(threads(sha256_of, [picture.image for picture in layout.pictures], "reading"))
    pictures = []
    for picture, sha256 in zip(layout.pictures, digests, strict=True):
        text = label_content(layout, picture)
        boxes = parse_boxes(text or b"", layout.classes)
        pictures.append(LabelledPicture(picture.name, picture.image, sha256, text, boxes, picture.part))
    return LabelledDataset(layout.classes, pictures, layout.about)


def parse_boxes(text: bytes, classes: list[str]) -> list[LabelledBox]:
    """Return the boxes of a label file that `prepare` accepts."""
    labels = parse_labels(text, where="", classes=len(classes))
    rows = zip(labels.class_ids.tolist(), labels.boxes_xywhn.tolist(), strict=True)
    return [LabelledBox(classes[number], (x, y, w, h)) for number, (x, y, w, h) in rows]


def class_list(config: Config, dataset: LabelledDataset) -> list[str]:
    """Return the classes for annotators: the configuration's, else the dataset's; NotSetUpError if neither has any."""
    if classes := config.dataset.classes or dataset.classes:
        return classes
    raise NotSetUpError(
        "params.yaml: dataset.classes is empty and no dataset was added yet; list the names of the things to be "
        f"detected, such as dataset.classes: [{', '.join(CLASSES)}]"
    )


def dataset_name(config: Config) -> str:
    """Return the folder name of the dataset's versions: the current dataset's, else from the project's title."""
    return config.dataset.name if config.dataset.url != "sample" else slug(config.labels.title) or "labels"


def upright_boxes(boxes: Sequence[LabelledBox], image: Path, frame: Frame) -> list[LabelledBox]:
    """Map boxes of a dataset to the upright picture."""
    return _turn(boxes, image, {}) if frame == "stored" else list(boxes)


def dataset_boxes(boxes: Sequence[LabelledBox], image: Path, frame: Frame) -> list[LabelledBox]:
    """Map boxes of the upright picture to the dataset's frame: the inverse of `upright_boxes`."""
    inverse = {6: 8, 8: 6}  # the other orientations are their own inverse
    return _turn(boxes, image, inverse) if frame == "stored" else list(boxes)


def _turn(boxes: Sequence[LabelledBox], picture: Path, others: Mapping[int, int]) -> list[LabelledBox]:
    """Turn boxes by the EXIF orientation in a picture's header, or by another one that `others` has for it."""
    try:
        with warnings.catch_warnings(), Image.open(picture) as image:
            warnings.simplefilter("ignore")  # about many pixels, or odd metadata
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - Pillow's errors on damaged bytes have no common base; `prepare` reports them
        orientation = 1
    turned = turn_boxes([box.xywhn for box in boxes], others.get(orientation, orientation)).tolist()
    return [LabelledBox(box.label, (x, y, w, h)) for box, (x, y, w, h) in zip(boxes, turned, strict=True)]
