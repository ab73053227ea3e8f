"""A project folder, its store and a project in Label Studio, and an annotator who draws in it through the API."""

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runner.config.edit import get_param
from runner.dataset.index import Index, parse_index
from runner.dataset.versions import record_key
from runner.label_studio.labelled_dataset import read_boxes
from runner.label_studio.regions import LabelledBox, region
from runner.store import Store, key_of_url, open_store
from tests.conftest import PROJECT
from tests.support.label_studio import LabelStudio
from tests.support.projects import set_params

SIZE = (64, 48)  # pixels of the pictures
AIRPLANE = LabelledBox("airplane", (0.5, 0.5, 0.25, 0.25))
HELICOPTER = LabelledBox("helicopter", (0.25, 0.25, 0.25, 0.25))


def picture(path: Path, seed: int) -> Path:
    """Write a small picture that looks like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(cells).resize(SIZE, Image.Resampling.NEAREST).save(path, quality=95)
    return path


def pictures(folder: Path, count: int, first: int = 0) -> Path:
    """Write pictures called 0000.jpg and so on."""
    for number in range(first, first + count):
        picture(folder / f"{number:04}.jpg", number)
    return folder


def labelled(folder: Path, labels: dict[str, str | None], classes: Sequence[str] = ("airplane", "helicopter")) -> Path:
    """Write a dataset: name of a picture → its label file; None for none."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(labels.items()):
        picture(folder / "images" / name, 1000 + number)
        if text is not None:
            (folder / "labels" / f"{Path(name).stem}.txt").write_text(text)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return folder


class Bench:
    """A user's folder with a project of its own in Label Studio."""

    def __init__(self, folder: Path, label_studio: LabelStudio) -> None:
        """Copy conf/ and params.yaml; the environment must name the store and Label Studio."""
        self.project, self.label_studio = folder, label_studio
        shutil.copytree(PROJECT / "conf", folder / "conf")
        shutil.copy(PROJECT / "params.yaml", folder)
        self.title = f"test {uuid.uuid4().hex[:12]}"
        self.set(labels={"title": self.title}, dataset={"classes": ["airplane", "helicopter"]})

    def set(self, **params: Any) -> None:
        set_params(self.project, params)

    @property
    def store(self) -> Store:
        return open_store(self.project)

    @property
    def params(self) -> str:
        return (self.project / "params.yaml").read_text(encoding="utf-8")

    @property
    def version(self) -> str:
        """The key of the version that params.yaml names."""
        return key_of_url(get_param(self.project / "params.yaml", ("dataset", "url")) or "")

    @property
    def id(self) -> int:
        """The number of the project in Label Studio."""
        found = self.label_studio.ask("GET", "/api/projects/", params={"title": self.title})["results"]
        (number,) = [each["id"] for each in found if each["title"] == self.title]
        return int(number)

    def tasks(self) -> list[dict[str, Any]]:
        options = {"project": self.id, "fields": "all", "resolve_uri": "false", "page_size": -1}
        return list(self.label_studio.ask("GET", "/api/tasks/", params=options)["tasks"])

    def task(self, name: str) -> dict[str, Any]:
        (found,) = [task for task in self.tasks() if task["data"].get("name") == name]
        return found

    def draw(
        self, task: int, *boxes: LabelledBox, cancelled: bool = False, person: str | None = None, **changes: Any
    ) -> int:
        """Annotate or skip a task as a person would, with changes of each region's value; return the annotation.

        `person` is the token of another one.
        """
        result = [region(box, SIZE, number) for number, box in enumerate(boxes)]
        for each in result:
            each["value"] |= changes
        content = {"result": result, "was_cancelled": cancelled, "lead_time": 2.5}
        made = self.label_studio.ask("POST", f"/api/tasks/{task}/annotations/", token=person, json=content)
        return int(made["id"])

    def next_task(self, person: str | None = None) -> int | None:
        """Return the task that *Label All Tasks* gives a person; None: no more."""
        try:
            found = self.label_studio.ask(
                "POST", "/api/dm/actions/", params={"id": "next_task", "project": self.id}, token=person, json={}
            )
        except AssertionError as error:
            assert "404" in str(error)
            return None
        return int(found["id"])

    def upload(self, file: Path) -> None:
        """Add a picture as people do in the page: Label Studio keeps it and makes a task."""
        files = {"file": (file.name, file.read_bytes(), "image/jpeg")}
        self.label_studio.ask("POST", f"/api/projects/{self.id}/import", files=files)

    def dataset(self) -> Index:
        """The version that params.yaml names."""
        return parse_index(self.store.read(self.version), self.version)

    def boxes(self) -> dict[str, list[LabelledBox]]:
        """Name of a picture in the dataset → its boxes, rounded."""
        index = self.dataset()
        return {row.name: rounded(read_boxes(row.labels, index.classes)) for row in index.rows}

    def picture(self, name: str) -> bytes:
        """The bytes of a picture of the dataset."""
        (sha256,) = [row.sha256 for row in self.dataset().rows if row.name == name]
        prefix = f"{self.version.rpartition('/')[0]}/pictures/{sha256}"
        return self.store.read(next(iter(self.store.list(prefix))))

    def record(self) -> dict[str, Any]:
        """How the version came about."""
        content: dict[str, Any] = json.loads(self.store.read(record_key(self.version)))
        return content


def rounded(boxes: Sequence[LabelledBox]) -> list[LabelledBox]:
    """Boxes as a label file keeps them."""
    whole = [(box.label, [round(part, 4) for part in box.xywhn]) for box in boxes]
    return [LabelledBox(label, (x, y, w, h)) for label, (x, y, w, h) in whole]
