"""`predict --review`: the most doubtful pictures become tasks in Label Studio, each picture once."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from posixpath import basename
from typing import Any, BinaryIO

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.errors import LabelStudioError, ObjectError
from runner.label_studio.labelled_dataset import dataset_name
from runner.label_studio.labelling_tasks import NewPicture, add_pictures, identify, list_tasks, model_version
from runner.label_studio.regions import LabelledBox, ScoredBox, one_each
from runner.label_studio.server import connected
from runner.label_studio.task_images import TaskImages
from runner.predict.predict import Scores
from runner.predict.scoring import Row
from runner.predict.source_pictures import read_picture
from runner.store import open_store
from runner.workspace import scratch


def send_doubtful(project: Path, scores: Scores, most: int) -> str:
    """Create tasks of at most `most` doubtful pictures, those nearest to a threshold first; return the counts.

    A task shows the model's boxes, those just below the thresholds too. A picture that has a task already is left out.
    """
    config, _ = compose(project)
    store = open_store(project)
    with scratch("predict-", project) as folder, connected() as server, scores.lines.open("rb") as lines:
        labels_project = server.project(config.labels.title)
        if unknown := [name for name in scores.classes if name not in labels_project.labels]:
            raise LabelStudioError(
                f"{labels_project.title} in Label Studio has no label {', '.join(unknown)}, which the model has; "
                "list it under dataset.classes, then `python -m runner labels setup`"
            )
        images = TaskImages(labels_project, store, dataset_name(config))
        tasks = identify(images, list_tasks(labels_project), folder)
        pictures = _pictures(scores, lines, images, folder)
        added = add_pictures(labels_project, images, tasks, pictures, most=most, near_bits=config.labels.near)
    return "\n".join(
        [
            f"{scores.doubtful:,} doubtful pictures: {added.created} new tasks"
            + (f", {len(added.existing)} have a task already" if added.existing else "")
            + f": {labels_project.address}",
            *listed("left out", added.left_out),
            *listed("near-duplicates; keep one of each, or keep them together with split.group", added.similar),
        ]
    )


def _pictures(scores: Scores, lines: BinaryIO, images: TaskImages, folder: Path) -> Iterator[NewPicture]:
    """Yield the doubtful pictures, each read again to a folder; one that is gone or has changed is left out."""
    for number, place in enumerate(_most_doubtful_first(lines)):
        lines.seek(place)
        row: Row = json.loads(lines.readline())
        address, path = row["picture"], folder / str(number)
        key = address.removeprefix(f"s3://{address.split('/')[2]}/") if scores.source.startswith("s3://") else address
        try:
            data = read_picture(scores.source, key)
        except ObjectError:
            continue
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            continue
        path.write_bytes(data)
        yield NewPicture(
            path,
            _task_data(row, model_version(scores.model)),
            address if images.key_of(address) else None,  # Label Studio reads only the store's bucket
            predictions={model_version(scores.model): _boxes(row)},
        )


def _most_doubtful_first(lines: BinaryIO) -> list[int]:
    """Return the place in bytes of each row with a margin, the smallest margin first."""
    found: list[tuple[float, int]] = []
    place = 0
    for line in lines:
        margin = json.loads(line)["margin"]
        if margin is not None:
            found.append((margin, place))
        place += len(line)
    return [place for _, place in sorted(found)]


def _task_data(row: Row, model: str) -> dict[str, Any]:
    confidences = [each["confidence"] for each in row["detections"]]
    priority = f"3 unsure {min(confidences):.2f}" if confidences else "2 nothing found"
    note = f"Unsure: a confidence is {row['margin']:.2f} from its threshold · Answered by {model}"
    return {"name": basename(row["picture"]), "origin": "import", "model": model, "priority": priority, "note": note}


def _boxes(row: Row) -> list[ScoredBox]:
    size = row["width"], row["height"]
    found = [
        (LabelledBox.from_corners(each["label"], list(each["box"].values()), size), each["confidence"])
        for each in row["detections"] + row["almost"]
    ]
    return one_each([each for each in found if min(each[0].xywhn[2:]) > 0])
