"""Current dataset: the version in params.yaml that a pull starts from, each picture with its digest and boxes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.config.schema import Config
from runner.dataset.labels import parse_labels
from runner.dataset.layouts import read_layout
from runner.dataset.versions import fetch_dataset, slug
from runner.errors import NotSetUpError
from runner.label_studio.regions import Box
from runner.sample import CLASSES
from runner.stages.parallel import threads
from runner.store import Store
from runner.workspace import sha256_of, work_folder


@contextmanager
def scratch(project: Path) -> Iterator[Path]:
    """Give an empty folder in the project's scratch space, removed after the block."""
    work = work_folder(project)
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="labels-", dir=work) as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Picture:
    """A labelled picture.

    Attributes:
        name: of its file in the dataset.
        sha256: of the picture's bytes, in hex.
        text: its label file, byte for byte; None: it has none.
        boxes: from the label file, in the frame of `prepare.exif_boxes`.
        part: train, val, test, or None.
    """

    name: str
    image: Path
    sha256: str
    text: bytes | None
    boxes: list[Box]
    part: str | None


@dataclass(frozen=True)
class Dataset:
    """A labelled dataset; without pictures before the first one was added.

    Attributes:
        classes: names in id order.
        pictures: sorted by name.
        about: name → licence, source and read-me files.
    """

    classes: list[str]
    pictures: list[Picture]
    about: dict[str, Path]


def current_dataset(config: Config, store: Store, project: Path, folder: Path) -> Dataset:
    """Return the version in params.yaml; the generated sample counts as none.

    Args:
        project: its scratch space keeps an interrupted download.
        folder: gets the files; must not exist.
    """
    if config.dataset.url == "sample":
        return Dataset(config.dataset.classes, [], {})
    fetch_dataset(config.dataset.url, config.dataset.sha256, store, folder, work=work_folder(project))
    return read_dataset(folder)


def read_dataset(folder: Path) -> Dataset:
    """Return a dataset on disk, in any layout that `dataset add` takes."""
    layout = read_layout(folder)
    digests = list(threads(sha256_of, [picture.image for picture in layout.pictures], "reading"))
    pictures = []
    for picture, sha256 in zip(layout.pictures, digests, strict=True):
        text = picture.label.read_bytes() if picture.label else None
        boxes = boxes_in(text or b"", layout.classes)
        pictures.append(Picture(picture.name, picture.image, sha256, text, boxes, picture.part))
    return Dataset(layout.classes, pictures, layout.about)


def boxes_in(text: bytes, classes: list[str]) -> list[Box]:
    """Return the boxes of a label file that `prepare` accepts."""
    labels = parse_labels(text, where="", classes=len(classes))
    rows = zip(labels.class_ids.tolist(), labels.boxes_xywhn.tolist(), strict=True)
    return [Box(classes[number], (x, y, w, h)) for number, (x, y, w, h) in rows]


def class_list(config: Config, dataset: Dataset) -> list[str]:
    """Return the classes for annotators: the configuration's, else the dataset's; NotSetUpError if neither has any."""
    if classes := config.dataset.classes or dataset.classes:
        return classes
    raise NotSetUpError(
        "params.yaml: dataset.classes is empty and no dataset was added yet, expected the names of what is to be "
        f"found, such as dataset.classes: [{', '.join(CLASSES)}]"
    )


def dataset_name(config: Config) -> str:
    """Return the folder name of the dataset's versions: the current dataset's, else from the project's title."""
    return config.dataset.name if config.dataset.url != "sample" else slug(config.labels.title) or "labels"
