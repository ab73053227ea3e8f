"""`labels pull`: the current dataset and all finished annotations become the next version of the dataset."""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runner.config.compose import compose
from runner.config.schema import Config
from runner.dataset.check import listed
from runner.dataset.versions import add_dataset, version_files, write_files
from runner.errors import GitError
from runner.forge.pull_request import changed_files, propose
from runner.label_studio.annotations import by_picture, newest_annotations
from runner.label_studio.labelled_dataset import LabelledDataset, class_list, current_dataset, dataset_name
from runner.label_studio.labelling_tasks import list_tasks, sha256_in
from runner.label_studio.merge import MergedDataset, assign_parts, check_merged, merge
from runner.label_studio.server import connected
from runner.label_studio.task_images import TaskImages
from runner.store import Store, open_store
from runner.tables import Row, Table
from runner.workspace import PARAMS, scratch, write_text

BRANCH = "labels"


class PullResult(NamedTuple):
    """The next dataset, and how it differs from the current one."""

    before: LabelledDataset
    merged: MergedDataset
    counts: Counter[str]  # in Label Studio: tasks, finished, skipped; doubles: tasks with the picture of another one
    kept: int  # number of pictures skipped or gone in Label Studio that stay because --remove was not given
    notes: list[str]  # boxes that were clipped, replaced or left out


def pull(project: Path, *, remove: bool = False, pull_request: bool = False) -> str:
    """Add the next version of the dataset and name it in params.yaml, if anything changed; return the changes as text.

    `remove`: also leave out the pictures that were skipped, or whose task was deleted. `pull_request`: propose the
    version in a pull request when at least `labels.min_new` pictures changed; params.yaml stays as it is.
    LabelStudioError: an annotation is invalid, a picture cannot be fetched, or the counts disagree; nothing is written.
    """
    if pull_request and changed_files(project, [str(PARAMS)]):
        raise GitError(f"{PARAMS} has uncommitted changes, which the pull request would include; commit them first")
    config, _ = compose(project)
    store = open_store(project)
    with scratch("labels-", project) as folder:
        result = _merge_annotations(project, config, store, folder, remove=remove)
        text = describe(result)
        changed = sum(result.merged.counts.values())
        is_new = changed or result.before.classes != result.merged.dataset.classes
        if pull_request and (not is_new or changed < config.labels.min_new):
            return f"{text}\nno pull request: {changed} pictures changed, labels.min_new is {config.labels.min_new}"
        if not is_new:
            return f"{text}\nnothing is new"
        add = _propose if pull_request else _add_version
        return f"{text}\n{add(project, config, result, folder / 'after')}"


def describe(result: PullResult, *, markdown: bool = False) -> str:
    """Return a table of the changes, and the names of the pictures."""
    datasets = (result.before, result.merged.dataset)
    old, new = (Counter(box.label for each in dataset.pictures for box in each.boxes) for dataset in datasets)
    rows: list[Row] = [("", "before", "after", "change")]
    rows.append(_row("pictures", *(len(dataset.pictures) for dataset in datasets)))
    rows.append(_row("without a box", *(sum(not each.boxes for each in dataset.pictures) for dataset in datasets)))
    rows += [_row(f"boxes of {name}", old[name], new[name]) for name in result.merged.dataset.classes]
    counts = result.counts
    lines = [
        f"{counts['tasks']} tasks in Label Studio: {counts['finished']} finished, {counts['skipped']} skipped"
        + (f"; {counts['doubles']} with the picture of another task" if counts["doubles"] else ""),
        Table("", rows).as_text(markdown=markdown),
    ]
    for title, names in (
        ("added", result.merged.added),
        ("relabelled", result.merged.relabelled),
        ("removed", result.merged.removed),
        ("boxes clipped, replaced or left out", result.notes),
    ):
        lines += [f"- {line.strip()}" if markdown else line for line in listed(title, names)]
    if result.kept:
        lines.append(f"{result.kept} pictures were skipped or their task was deleted; --remove leaves them out")
    return ("\n\n" if markdown else "\n").join(lines)


def _merge_annotations(project: Path, config: Config, store: Store, folder: Path, *, remove: bool) -> PullResult:
    with connected() as server:
        before = current_dataset(config, store, project, folder / "before")
        classes = class_list(config, before)
        labels_project = server.project(config.labels.title)
        annotations, notes = newest_annotations(labels_project, classes, config.labels.rotated)
        tasks = list_tasks(labels_project)
        known = {picture.sha256 for picture in before.pictures}
        images = TaskImages(labels_project, store, dataset_name(config))
        newest, doubles = by_picture(annotations, known, images, folder / "fetched")
    skipped = {sha256 for sha256, annotation in newest.items() if annotation.boxes is None}
    gone = known & skipped | known - {sha256_in(task.data) for task in tasks} - newest.keys()
    merged = merge(before, newest, gone if remove else set(), classes, config.prepare.exif_boxes)
    assign_parts(merged, before, config.split)
    check_merged(merged, before)
    counts = Counter(
        tasks=len(tasks),
        finished=sum(each.boxes is not None for each in annotations),
        skipped=sum(each.boxes is None for each in annotations),
        doubles=doubles,
    )
    return PullResult(before, merged, counts, 0 if remove else len(gone), notes)


def _add_version(project: Path, config: Config, result: PullResult, folder: Path) -> str:
    """Write the dataset to a folder and add it as the next version, with a record for the flywheel report."""
    dataset = result.merged.dataset
    pictures = [(each.name, each.image, each.text, each.part) for each in dataset.pictures]
    write_files(version_files(dataset.classes, dataset.about, pictures), folder)
    record = {
        "made_by": "labels pull",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "previous": config.dataset.sha256,
        **result.merged.counts,
        "origins": dict(result.merged.origins),
        "label_studio": dict(result.counts),
    }
    return add_dataset(folder, project=project, name=dataset_name(config), record=record, composed=(config, []))


def _propose(project: Path, config: Config, result: PullResult, folder: Path) -> str:
    """Add the version, and open a pull request with the new params.yaml; restore the one of the checkout."""
    params = project / PARAMS
    before = params.read_text(encoding="utf-8")
    try:
        _add_version(project, config, result, folder)
        after = params.read_text(encoding="utf-8")
    finally:
        write_text(params, before)
    title = f"Labels: {', '.join(f'{count} {change}' for change, count in result.merged.counts.items() if count)}"
    body, base = describe(result, markdown=True), os.environ.get("BRANCH")  # set in the cluster's pods
    return propose(project, {str(PARAMS): after}, branch=BRANCH, title=title, body=body, base=base)


def _row(name: str, before: int, after: int) -> Row:
    return name, str(before), str(after), f"{after - before:+d}" if after != before else ""
