"""Labelled dataset as Label Studio needs it: the index of a version, its boxes with the names of their classes.

Boxes of an index and boxes in Label Studio are both of the picture as viewers show it.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runner.config.schema import Config
from runner.dataset.add import slug
from runner.dataset.index import Index, read_index
from runner.dataset.labels import Labels, label_text, parse_labels
from runner.dataset.versions import open_version
from runner.errors import MissingObjectError
from runner.label_studio.regions import LabelledBox
from runner.sample import CLASSES
from runner.store import Store
from runner.workspace import work_folder

PULL = "labels pull"  # maker of a version, in its record


def current_dataset(config: Config, store: Store, project: Path, folder: Path) -> tuple[Index, dict[str, Path]]:
    """Return the version in params.yaml, and the files of its pictures by digest where the store has a zip.

    The zip is unpacked to `folder`, which is new. Of the generated sample there are the classes alone, no picture.
    """
    if config.dataset.url == "sample":
        return Index(config.dataset.listed or list(CLASSES), {}, []), {}
    return open_version(config.dataset.url, config.dataset.sha256, store, folder, work=work_folder(project))


def read_boxes(labels: str, classes: Sequence[str]) -> list[LabelledBox]:
    """Return the boxes of a row's label lines."""
    found = parse_labels(labels.encode(), where="", classes=len(classes))
    rows = zip(found.class_ids.tolist(), found.boxes_xywhn.tolist(), strict=True)
    return [LabelledBox(classes[number], (x, y, w, h)) for number, (x, y, w, h) in rows]


def count_boxes(config: Config, store: Store, project: Path) -> Counter[str]:
    """Return class → number of its boxes in the version in params.yaml.

    Empty where that is the sample, a whole zip, or not in the store.
    """
    url = config.dataset.url
    if url == "sample" or url.endswith(".zip"):
        return Counter()
    try:
        index = read_index(url, config.dataset.sha256, store, work=work_folder(project))
    except MissingObjectError:
        return Counter()
    return Counter(dict(zip(index.classes, index.boxes, strict=True)))


def write_boxes(boxes: Sequence[LabelledBox], classes: Sequence[str]) -> str:
    """Return the label lines of boxes, in canonical form; the inverse of `read_boxes`."""
    ids = np.array([classes.index(box.label) for box in boxes], dtype=np.int64)
    xywhn = np.array([box.xywhn for box in boxes], dtype=np.float64).reshape(-1, 4)
    return label_text(Labels(ids, xywhn, [], []))


def class_list(config: Config, dataset: Index) -> list[str]:
    """Return the classes for annotators: the configuration's, else the dataset's."""
    return config.dataset.listed or dataset.classes


def dataset_name(config: Config) -> str:
    """Return the folder name of the dataset's versions: the current dataset's, else from the project's title."""
    return config.dataset.name if config.dataset.url != "sample" else slug(config.labels.title) or "labels"
