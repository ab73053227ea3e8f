"""`labels import`: pictures become tasks, a dataset's boxes become finished annotations; each picture once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.config.compose import compose
from runner.config.schema import Config
from runner.dataset.archive import unpack
from runner.dataset.check import listed
from runner.dataset.files import is_picture, list_files
from runner.dataset.names import shown
from runner.dataset.prefix import fetch_uri
from runner.errors import DatasetError, LabelStudioError
from runner.label_studio.browser_pictures import Look, as_seen, look_at
from runner.label_studio.current import dataset_name, read_dataset, scratch
from runner.label_studio.interface import labels_in
from runner.label_studio.labelling_tasks import BATCH, NewTask, Task, create_tasks, tasks_of
from runner.label_studio.predictor import Predictor, deployed
from runner.label_studio.project import existing_project
from runner.label_studio.regions import Box
from runner.label_studio.server import connected
from runner.label_studio.shelf import File, Shelf
from runner.stages.parallel import threads
from runner.store import open_store
from runner.workspace import sha256_of

_CLASS_LISTS = ("classes.txt", "data.yaml", "data.yml")


@dataclass(frozen=True)
class Picture:
    """A picture to import.

    Attributes:
        name: for people, and for the dataset.
        boxes: of its dataset, in that dataset's frame; None: not labelled.
    """

    name: str
    path: Path
    boxes: list[Box] | None


def import_pictures(source: str, *, project: Path, predict: bool = False) -> str:
    """Make a task of each picture that has none yet; a dataset's boxes become finished annotations. Return the counts.

    Args:
        source: a folder or a zip, of pictures or of a dataset, or s3://bucket/prefix with either.
        predict: add the deployed model's predictions to unlabelled pictures.
    Raises:
        DatasetError: there is no such source, it has no pictures, or it is unsafe to unpack.
        LabelStudioError: the server cannot be reached or refuses; run again, it continues after the tasks already made.
    """
    config, _ = compose(project)
    store = open_store(project)
    predictor = deployed(project) if predict else None
    with scratch(project) as folder, connected() as server:
        pictures, kind = _read(source, folder)
        its = existing_project(server, config.labels.title)
        _check_classes(pictures, labels_in(its.configuration), config)
        tasks = tasks_of(its)
        shelf = Shelf(its, store, dataset_name(config))
        made = _Import(config, kind, shelf, predictor, tasks, lambda new: create_tasks(its, new))
        made.run(pictures)
    return "\n".join(
        [
            f"{len(pictures)} pictures: {made.made} new tasks"
            + (f" ({made.finished} with the dataset's boxes)" if made.finished else "")
            + (f", {made.there} there already" if made.there else ""),
            *listed("left out", made.left_out),
            *listed("look alike; keep one of each, or keep them together with split.group", made.alike),
        ]
    )


class _Import:
    """Makes tasks, a batch at a time, and counts."""

    def __init__(
        self,
        config: Config,
        kind: str,
        shelf: Shelf,
        predictor: Predictor | None,
        tasks: Sequence[Task],
        create: Callable[[list[NewTask]], None],
    ) -> None:
        self._config, self._kind, self._shelf, self._predictor = config, kind, shelf, predictor
        self._create = create
        self._known = {str(task.data.get("sha256")) for task in tasks}
        self._alike = Alike(config.labels.near, tasks)
        self.made = self.finished = self.there = 0
        self.left_out: list[str] = []
        self.alike: list[str] = []

    def run(self, pictures: Sequence[Picture]) -> None:
        """Make the tasks of all pictures that have none."""
        digests = threads(sha256_of, [picture.path for picture in pictures], "reading")
        new: list[tuple[str, Picture]] = []
        for sha256, picture in zip(digests, pictures, strict=True):
            if sha256 in self._known:
                self.there += 1
            else:
                self._known.add(sha256)
                new.append((sha256, picture))
        for start in range(0, len(new), BATCH):
            self._batch(new[start : start + BATCH])

    def _batch(self, new: Sequence[tuple[str, Picture]]) -> None:
        seen = list(threads(lambda each: look_at(each[1].path.read_bytes()), new, "looking"))
        good: list[tuple[str, Picture, Look]] = []
        for (sha256, picture), look in zip(new, seen, strict=True):
            if isinstance(look, str):
                self.left_out.append(f"{shown(picture.name)}: {look}")
                continue
            if other := self._alike.find(look.dhash, picture.name):
                self.alike.append(f"{shown(picture.name)} and {shown(other)}")
            good.append((sha256, picture, look))
        if not good:
            return
        images = self._shelf.place([File(picture.path, f"{sha256}{look.suffix}") for sha256, picture, look in good])
        tasks = [self._task(image, *each) for image, each in zip(images, good, strict=True)]
        self._create(tasks)
        self.made += len(tasks)
        self.finished += sum(task.boxes is not None for task in tasks)

    def _task(self, image: str, sha256: str, picture: Picture, look: Look) -> NewTask:
        data = {"sha256": sha256, "name": picture.name, "origin": self._kind}
        boxes = picture.boxes
        if boxes is not None:
            boxes = as_seen(boxes, look.turn, self._config.prepare.exif_boxes)
        predictions = {}
        if boxes is None and self._predictor:
            predictions[self._predictor.name] = self._predictor.boxes(picture.path.read_bytes())
        return NewTask(image, look, data, boxes, predictions)


class Alike:
    """Finds near-duplicates of earlier pictures."""

    def __init__(self, bits: int, tasks: Iterable[Task]) -> None:
        """Start with the existing tasks; near-duplicates differ in at most `bits` of 64 hash bits."""
        self._bits = bits
        hashes = [(str(task.data.get("dhash")), str(task.data.get("name"))) for task in tasks]
        known = [(int(text, 16), name) for text, name in hashes if len(text) == 16 and _is_hex(text)]
        self._names = [name for _, name in known]
        self._hashes = np.array([number for number, _ in known], np.uint64)

    def find(self, dhash: int, name: str) -> str | None:
        """Return the name of an earlier near-duplicate, and remember this picture."""
        bits = np.bitwise_count(self._hashes ^ np.uint64(dhash))
        nearest = int(bits.argmin()) if len(bits) else 0
        found = self._names[nearest] if len(bits) and bits[nearest] <= self._bits else None
        self._names.append(name)
        self._hashes = np.append(self._hashes, np.uint64(dhash))
        return found


def _read(source: str, folder: Path) -> tuple[list[Picture], str]:
    """Return the pictures of a source, and the origin of their tasks: dataset or import."""
    path = fetch_uri(source, folder / "fetched") if source.startswith("s3://") else Path(source).expanduser()
    if not path.exists():
        raise DatasetError(
            f"{source}: there is no such file or folder, expected pictures, or a zip or folder with a dataset"
        )
    if path.is_file():
        unpack(path, folder / "source")
        path = folder / "source"
    files = list_files(path)
    if any(file.rpartition("/")[2] in _CLASS_LISTS for file in files.files):
        dataset = read_dataset(path)
        return [Picture(each.name, each.image, each.boxes) for each in dataset.pictures], "dataset"
    pictures = [Picture(file.rpartition("/")[2], path / file, None) for file in files.files if is_picture(file)]
    if not pictures:
        raise DatasetError(f"{source}: no pictures, expected files such as .jpg and .png")
    return pictures, "import"


def _check_classes(pictures: Sequence[Picture], labels: Sequence[str], config: Config) -> None:
    used = {box.label for picture in pictures for box in picture.boxes or []}
    if missing := sorted(used - set(labels)):
        raise LabelStudioError(
            f"the dataset has boxes of {', '.join(missing)}, but {config.labels.title} in Label Studio has labels for "
            f"{', '.join(labels) or 'nothing'}: list them under dataset.classes, then `python -m runner labels setup`"
        )


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)
