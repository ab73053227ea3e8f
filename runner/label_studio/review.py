"""`labels suspects --review`: pictures with suspicious labels become tasks of origin `review`."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

from runner.config.compose import compose
from runner.label_studio.labelled_dataset import dataset_name
from runner.label_studio.labelling_tasks import NewPicture, add_pictures, list_tasks, sha256_in
from runner.label_studio.regions import LabelledBox, ScoredBox
from runner.label_studio.server import connected
from runner.label_studio.task_images import TaskImages
from runner.store import open_store
from runner.suspects.find_suspects import JudgedPicture, Judgement
from runner.suspects.ranking import LEAST_SUSPICION, Suspect
from runner.suspects.suspect_files import describe, summary_of

ORIGIN = "review"
_MOST_REASONS = 8  # of a picture


def send_for_review(project: Path, judgement: Judgement, most: int) -> str:
    """Create or mark a task for each of the `most` most suspicious pictures; return the counts.

    The task of a picture that has one gets the origin `review` and the reasons; another picture gets a task that shows
    its boxes, and those that the model misses, to be confirmed or corrected. A picture that was sent before with the
    same boxes is left out: somebody has looked at it.
    """
    config, _ = compose(project)
    store = open_store(project)
    with connected() as server:
        labels_project = server.project(config.labels.title)
        labels_project.require_labels(judgement.classes, "the dataset")
        tasks = list_tasks(labels_project)
        known = {sha256_in(task.data): task for task in tasks}
        new: list[NewPicture] = []
        marked = before = 0
        for number, own in _pictures(judgement):
            if len(new) + marked >= most:
                break
            picture = judgement.pictures[number]
            data, task = review_data(judgement, picture, own), known.get(picture.sha256)
            if task and task.data.get("reviewed") == data["reviewed"]:
                before += 1
            elif task:
                server.client.tasks.update(str(task.id), data={**task.data, **data})
                marked += 1
            else:
                boxes = {f"suspects {judgement.model[:12]}": boxes_to_confirm(judgement, picture, own)}
                data["name"] = picture.example.name
                new.append(NewPicture(picture.example.source, data, predictions=boxes))
        added = add_pictures(TaskImages(labels_project, store, dataset_name(config)), tasks, new)
    return "\n".join(
        [
            f"review: {added.created} new tasks, {marked} tasks marked"
            + (f", {before} pictures were sent before and have the same boxes" if before else ""),
            *added.left_out,
            f"filter the list by origin `{ORIGIN}`: {labels_project.address}",
        ]
    )


def review_data(judgement: Judgement, picture: JudgedPicture, suspects: list[Suspect]) -> dict[str, Any]:
    """Return what a task for review says: its origin, the reasons, and a digest of the boxes that were judged."""
    reasons = [summary_of(describe(judgement, suspect)) for suspect in suspects[:_MOST_REASONS]]
    labelled, (width, height) = picture.example.labelled, picture.size_px
    fractions = (labelled.xyxy_px / [width, height, width, height]).tolist()
    boxes = sorted(zip(labelled.class_ids.tolist(), fractions, strict=True))
    named = [[judgement.classes[number], *(round(side, 4) for side in box)] for number, box in boxes]
    digest = hashlib.sha256(repr(named).encode()).hexdigest()
    review = "; ".join(reasons)
    return {"origin": ORIGIN, "review": review, "note": f"Look again: {review}", "reviewed": digest[:16]}


def boxes_to_confirm(judgement: Judgement, picture: JudgedPicture, suspects: list[Suspect]) -> list[ScoredBox]:
    """Return the labelled boxes, and those that the model finds without one, with its probability."""
    labelled, size = picture.example.labelled, picture.size_px
    boxes = [
        (LabelledBox.from_corners(judgement.classes[number], box, size), 1.0)
        for number, box in zip(labelled.class_ids.tolist(), labelled.xyxy_px.tolist(), strict=True)
    ]
    missed = [suspect.place for suspect in suspects if suspect.kind == "missed" and suspect.place]
    return boxes + [
        (LabelledBox.from_corners(judgement.classes[place.class_id], place.xyxy_px.tolist(), size), place.probability)
        for place in missed
    ]


def _pictures(judgement: Judgement) -> list[tuple[int, list[Suspect]]]:
    """Return the pictures with suspects, in the order of the list."""
    own: dict[int, list[Suspect]] = defaultdict(list)
    for suspect in judgement.suspects:
        if suspect.suspicion >= LEAST_SUSPICION:
            own[suspect.picture].append(suspect)
    return list(own.items())
