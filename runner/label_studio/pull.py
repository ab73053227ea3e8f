"""`labels pull`: the current dataset and all finished annotations become the next version of the dataset."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from runner.config.compose import compose
from runner.config.edit import get_param
from runner.config.schema import Config
from runner.dataset.check import listed
from runner.dataset.diff import count_table
from runner.dataset.index import Index
from runner.dataset.versions import name_version, store_version
from runner.errors import GitError
from runner.forge.pull_request import changed_files, propose
from runner.label_studio.annotations import by_picture, newest_annotations
from runner.label_studio.labelled_dataset import class_list, current_dataset, dataset_name
from runner.label_studio.labelling_tasks import list_tasks, sha256_in
from runner.label_studio.merge import MergedDataset, assign_parts, check_merged, merge
from runner.label_studio.server import connected
from runner.label_studio.task_images import TaskImages
from runner.store import Store, open_store
from runner.workspace import PARAMS, scratch, write_text

BRANCH = "labels"


class PullResult(NamedTuple):
    """The next dataset, and how it differs from the current one."""

    before: Index
    files: dict[str, Path]  # of its pictures, by digest, where the store has them in a zip
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
        is_new = changed or result.before.classes != result.merged.index.classes
        if pull_request and (not is_new or changed < config.labels.min_new):
            return f"{text}\nno pull request: {changed} pictures changed, labels.min_new is {config.labels.min_new}"
        if not is_new:
            return f"{text}\nnothing is new"
        add = _propose if pull_request else _add_version
        return f"{text}\n{add(project, config, store, result, folder)}"


def describe(result: PullResult, *, markdown: bool = False) -> str:
    """Return a table of the changes, and the names of the pictures."""
    counts = result.counts
    lines = [
        f"{counts['tasks']} tasks in Label Studio: {counts['finished']} finished, {counts['skipped']} skipped"
        + (f"; {counts['doubles']} with the picture of another task" if counts["doubles"] else ""),
        count_table(result.before, result.merged.index).as_text(markdown=markdown),
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
        before, files = current_dataset(config, store, project, folder / "before")
        classes = class_list(config, before)
        labels_project = server.project(config.labels.title)
        annotations, notes = newest_annotations(labels_project, classes, config.labels.rotated)
        tasks = list_tasks(labels_project)
        known = {row.sha256 for row in before.rows}
        images = TaskImages(labels_project, store, dataset_name(config))
        newest, doubles = by_picture(annotations, known, images, folder / "fetched")
    skipped = {sha256 for sha256, annotation in newest.items() if annotation.boxes is None}
    gone = known & skipped | known - {sha256_in(task.data) for task in tasks} - newest.keys()
    merged = merge(before, newest, gone if remove else set(), classes)
    assign_parts(merged, before, config.split)
    check_merged(merged, before)
    counts = Counter(
        tasks=len(tasks),
        finished=sum(each.boxes is not None for each in annotations),
        skipped=sum(each.boxes is None for each in annotations),
        doubles=doubles,
    )
    return PullResult(before, files, merged, counts, 0 if remove else len(gone), notes)


def _add_version(project: Path, config: Config, store: Store, result: PullResult, folder: Path) -> str:
    """Store the next version, with a record for the flywheel report, and name it in params.yaml."""
    merged, name = result.merged, dataset_name(config)
    record = {
        "made_by": "labels pull",
        "previous": config.dataset.sha256,
        **merged.counts,
        "origins": dict(merged.origins),
        "label_studio": dict(result.counts),
    }
    url, sha256, stored = store_version(store, name, merged.index, result.files | merged.files, record, work=folder)
    return f"{stored}\n{name_version(project / PARAMS, name, url, sha256)}"


def _propose(project: Path, config: Config, store: Store, result: PullResult, folder: Path) -> str:
    """Add the version, and open a pull request with the new params.yaml; restore the one of the checkout."""
    params = project / PARAMS
    before = params.read_text(encoding="utf-8")
    try:
        _add_version(project, config, store, result, folder)
        version = get_param(params, ("dataset", "sha256")) or ""
        after = params.read_text(encoding="utf-8")
    finally:
        write_text(params, before)
    title = f"Labels: {', '.join(f'{count} {change}' for change, count in result.merged.counts.items() if count)}"
    body, base = describe(result, markdown=True), os.environ.get("BRANCH")  # set in the cluster's pods
    if config.dataset.sha256:  # a request's text holds no picture of ours
        sides = f"{config.dataset.sha256[:12]} {version[:12]}"
        body += f"\n\nThe changed pictures, drawn: `python -m runner dataset diff {sides} --sheet changes.jpg`"
    return propose(project, {str(PARAMS): after}, branch=BRANCH, title=title, body=body, base=base)
