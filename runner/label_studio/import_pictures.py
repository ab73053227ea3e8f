"""`labels import`: pictures become tasks, a dataset's boxes become finished annotations; each picture once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from posixpath import basename

from runner.config.compose import compose
from runner.dataset.archive import unpack
from runner.dataset.check import Frame, check_dataset, listed
from runner.dataset.files import is_picture, list_files
from runner.dataset.prefix import fetch_uri
from runner.dataset.versions import read_source
from runner.errors import DatasetError, LabelStudioError
from runner.label_studio.labelled_dataset import dataset_name, read_boxes
from runner.label_studio.labelling_tasks import NewPicture, add_pictures, identify, list_tasks
from runner.label_studio.regions import LabelledBox, ScoredBox, one_each
from runner.label_studio.server import Project, connected
from runner.label_studio.task_images import TaskImages
from runner.release.served import load_served, served_source
from runner.store import open_store
from runner.workspace import scratch
from serving.storage.model import Model
from serving.vision.detector import Options

_CLASS_LISTS = ("classes.txt", "data.yaml", "data.yml")


def import_pictures(source: str, *, project: Path, predict: bool = False, frame: Frame = "seen") -> str:
    """Create a task for each picture without one; a dataset's boxes become finished annotations. Return the counts.

    The source is a folder or a zip, of pictures or of a dataset, or s3://bucket/prefix with either. `predict`: add the
    deployed model's predictions to unlabelled pictures. `frame` is that of a dataset's boxes.
    """
    config, _ = compose(project)
    store = open_store(project)
    predictor = partial(_predict, load_served(project, served_source(project))) if predict else None
    with scratch("labels-", project) as folder, connected() as server:
        pictures, lost = _read(source, folder, frame)
        labels_project = server.project(config.labels.title)
        _check_classes(pictures, labels_project)
        images = TaskImages(labels_project, store, dataset_name(config))
        tasks, near = identify(images, list_tasks(labels_project), folder), config.labels.near
        added = add_pictures(images, tasks, pictures, near_bits=near, predict=predictor)
    return "\n".join(
        [
            f"{len(pictures)} pictures: {added.created} new tasks"
            + (f" ({added.annotated} with the dataset's boxes)" if added.annotated else "")
            + (f", {len(added.existing)} have a task already" if added.existing else ""),
            *listed("left out", lost + added.left_out),
            *listed("near-duplicates; keep one of each, or keep them together with split.group", added.similar),
        ]
    )


def _read(source: str, folder: Path, frame: Frame) -> tuple[list[NewPicture], list[str]]:
    """Return the pictures of a source, and what of a dataset is left out; `origin` is dataset or import."""
    path = fetch_uri(source, folder / "fetched") if source.startswith("s3://") else Path(source).expanduser()
    if not path.exists():
        raise DatasetError(
            f"{source}: there is no such file or folder, expected pictures, or a zip or folder with a dataset"
        )
    if path.is_file():
        unpack(path, folder / "source")
        path = folder / "source"
    files = list_files(path).files
    pictures: list[NewPicture] = []
    if any(basename(file) in _CLASS_LISTS for file in files):
        layout = read_source(path, source)
        check = check_dataset(layout, path, frame)
        for row in check.rows:
            boxes, data = read_boxes(row.labels, layout.classes), {"name": row.name, "origin": "dataset"}
            pictures.append(NewPicture(check.files[row.sha256], data, boxes=boxes))
        return pictures, [*layout.lost, *layout.ignored, *check.emptied, *check.wrong]
    for file in filter(is_picture, files):
        pictures.append(NewPicture(path / file, {"name": basename(file), "origin": "import"}))
    if not pictures:
        raise DatasetError(f"{source}: no pictures, expected files such as .jpg and .png")
    return pictures, []


def _predict(model: Model, data: bytes) -> dict[str, list[ScoredBox]]:
    """Return the model's name and version → its boxes on the upright picture, as the model server would find them."""
    found = model.detector.detect(data, Options(confidence=model.thresholds))
    boxes: list[ScoredBox] = []
    for number, corners, confidence in zip(found.class_ids, found.boxes_xyxy_px, found.confidences, strict=True):
        label, size = model.detector.classes[number], (found.width, found.height)
        boxes.append((LabelledBox.from_corners(label, corners.tolist(), size), round(float(confidence), 4)))
    return {model.name.title: one_each(boxes)}


def _check_classes(pictures: Sequence[NewPicture], labels_project: Project) -> None:
    labels = labels_project.labels
    if missing := sorted({box.label for picture in pictures for box in picture.boxes or []} - set(labels)):
        raise LabelStudioError(
            f"the dataset has boxes of {', '.join(missing)}, but {labels_project.title} in Label Studio has labels for "
            f"{', '.join(labels) or 'nothing'}: list them under dataset.classes, then `python -m runner labels setup`"
        )
