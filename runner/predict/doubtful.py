"""`predict --review`: the doubtful pictures of the greatest score become tasks in Label Studio, each picture once."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from posixpath import basename
from typing import BinaryIO

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.label_studio.label_next import Evidence, Parts, parts_of, shortlist
from runner.label_studio.labelled_dataset import count_boxes, dataset_name
from runner.label_studio.labelling_tasks import (
    NewPicture,
    Task,
    add_pictures,
    by_digest,
    by_usefulness,
    identify,
    list_tasks,
)
from runner.label_studio.regions import LabelledBox, ScoredBox, one_each
from runner.label_studio.server import connected
from runner.label_studio.task_images import TaskImages
from runner.predict.predict import Scores
from runner.predict.scoring import Row
from runner.predict.source_pictures import reread
from runner.store import open_store
from runner.workspace import scratch


def send_doubtful(project: Path, scores: Scores, most: int) -> str:
    """Create tasks of at most `most` doubtful pictures, those of the greatest score first; return the counts.

    A task shows the model's boxes, those just below the thresholds too. A picture that has a task already is left out.
    """
    config, _ = compose(project)
    store = open_store(project)
    with scratch("predict-", project) as folder, connected() as server, scores.lines.open("rb") as lines:
        labels_project = server.project(config.labels.title)
        labels_project.require_labels(scores.classes, "the model")
        images = TaskImages(labels_project, store, dataset_name(config))
        tasks = identify(images, list_tasks(labels_project), folder)
        rows, has_task = _shortlist(lines, by_digest(tasks), count_boxes(config, store, project), most)
        pictures = _pictures(scores, rows, tasks, images, folder)
        added = add_pictures(images, tasks, pictures, most=most, near_bits=config.labels.near)
    return "\n".join(
        [
            f"{scores.doubtful:,} doubtful pictures: {added.created} new tasks"
            + (f", {has_task + len(added.existing)} have a task already" if has_task or added.existing else "")
            + f": {labels_project.address}",
            *listed("left out", added.left_out),
            *listed("near-duplicates; keep one of each, or keep them together with split.group", added.similar),
        ]
    )


def _shortlist(
    lines: BinaryIO, known: Collection[str], counts: Mapping[str, int], most: int
) -> tuple[list[tuple[Row, Parts]], int]:
    """Return the doubtful rows to choose `most` of, with the parts of their scores, and how many have a task already.

    `known` are the digests of pictures with a task, `counts` the labelled boxes of each class.
    """
    has_task = 0

    def waiting() -> Iterator[tuple[Row, Parts]]:
        nonlocal has_task
        for row in map(json.loads, lines):
            if row["margin"] is not None and row["sha256"] in known:
                has_task += 1
            elif row["margin"] is not None:
                labels = [each["label"] for each in row["detections"] + row["almost"]]
                yield row, parts_of(Evidence(labels, len(row["detections"]), row["margin"]), counts)

    return shortlist(waiting(), most), has_task


def _pictures(
    scores: Scores, rows: Sequence[tuple[Row, Parts]], tasks: Sequence[Task], images: TaskImages, folder: Path
) -> Iterator[NewPicture]:
    """Yield the pictures of rows, the most useful first; one that is gone or has changed is left out."""
    for number, (row, parts) in enumerate(by_usefulness(rows, partial(reread, scores.source), tasks)):
        path = folder / str(number)
        if (data := reread(scores.source, row)) is None:
            continue
        path.write_bytes(data)
        address, model = row["picture"], scores.model.title
        note = f"Unsure: a confidence is {row['margin']:.2f} from its threshold · Answered by {model}"
        yield NewPicture(
            path,
            {"name": basename(address), "origin": "import", "model": model, "note": note, **parts.task_data()},
            address if images.key_of(address) else None,  # Label Studio reads only the store's bucket
            predictions={model: _boxes(row)},
        )


def _boxes(row: Row) -> list[ScoredBox]:
    size = row["width"], row["height"]
    found = [
        (LabelledBox.from_corners(each["label"], list(each["box"].values()), size), each["confidence"])
        for each in row["detections"] + row["almost"]
    ]
    return one_each([each for each in found if min(each[0].xywhn[2:]) > 0])
