"""`labels pull`: the current dataset and all finished annotations become the next version of the dataset."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.config.compose import compose
from runner.config.schema import PARTS, Config, SplitConfig
from runner.dataset.check import listed
from runner.dataset.versions import add_dataset
from runner.errors import GitError, LabelStudioError
from runner.forge.pull_request import changed_files, propose
from runner.label_studio.annotations import newest_annotations
from runner.label_studio.current import Dataset, Picture, boxes_in, class_list, current_dataset, dataset_name, scratch
from runner.label_studio.identity import digest_in, identify
from runner.label_studio.labelling_tasks import tasks_of
from runner.label_studio.project import existing_project
from runner.label_studio.server import Server, connected
from runner.label_studio.shelf import Shelf
from runner.label_studio.union import Union, same_boxes, unite
from runner.stages.split import group_key, part_of
from runner.store import Store, open_store
from runner.tables import Row, Table
from runner.workspace import PARAMS, link, write_text

BRANCH = "labels"


@dataclass(frozen=True)
class Pulled:
    """Result of a pull.

    Attributes:
        counts: of Label Studio: tasks, finished, skipped, and tasks whose picture another task shows too.
        staying: pictures skipped or gone in Label Studio that stay because --remove was not given.
        notes: boxes that were clipped, straightened or left out.
    """

    before: Dataset
    union: Union
    counts: Counter[str]
    staying: int
    notes: list[str]


def pull(project: Path, *, remove: bool = False) -> str:
    """Add the next version of the dataset and name it in params.yaml, if anything changed; return the changes as text.

    Args:
        remove: also leave out the pictures that were skipped, or whose task was deleted.
    Raises:
        LabelStudioError: an annotation is invalid, a picture cannot be fetched, or the counts disagree; then nothing
            is written.
        DatasetError, StoreError, ConfigError: the current dataset is missing, or the next one cannot be stored.
    """
    config, _ = compose(project)
    store = open_store(project)
    with scratch(project) as folder:
        with connected() as server:
            pulled = _gather(server, config, store, project, folder, remove=remove)
        text = describe(pulled)
        return f"{text}\n{_keep(project, config, pulled, folder)}" if _differs(pulled) else f"{text}\nnothing is new"


def propose_pull(project: Path, *, remove: bool = False) -> str:
    """Pull, and open a pull request with the new version when at least `labels.min_new` pictures changed.

    The checkout stays as it was.

    Raises:
        GitError: params.yaml has uncommitted changes, or Git or the forge refuses.
        LabelStudioError, DatasetError, StoreError, ConfigError: as `pull`.
    """
    if changed_files(project, [str(PARAMS)]):
        raise GitError(f"{PARAMS} has changes that are not committed, and they would get into the pull request; commit")
    config, _ = compose(project)
    store = open_store(project)
    params = project / PARAMS
    as_it_was = params.read_text(encoding="utf-8")
    with scratch(project) as folder:
        with connected() as server:
            pulled = _gather(server, config, store, project, folder, remove=remove)
        text = describe(pulled)
        if not _differs(pulled) or pulled.union.news < config.labels.min_new:
            return f"{text}\nno pull request: {pulled.union.news} are new, labels.min_new is {config.labels.min_new}"
        try:
            _keep(project, config, pulled, folder)
            now = params.read_text(encoding="utf-8")
        finally:
            write_text(params, as_it_was)
    title = f"Labels: {', '.join(f'{count} {what}' for what, count in _news(pulled.union).items() if count)}"
    body, base = describe(pulled, markdown=True), os.environ.get("BRANCH")  # set in the cluster's pods
    made = propose(project, {str(PARAMS): now}, branch=BRANCH, title=title, body=body, base=base)
    return f"{text}\n{made}"


def describe(pulled: Pulled, *, markdown: bool = False) -> str:
    """Return a table of the changes, and the names of the pictures."""
    before, after = pulled.before, pulled.union.dataset
    rows: list[Row] = [("", "before", "after", "change")]
    rows.append(_row("pictures", len(before.pictures), len(after.pictures)))
    rows.append(_row("without a box", *(sum(not each.boxes for each in it.pictures) for it in (before, after))))
    old, new = (Counter(box.label for each in it.pictures for box in each.boxes) for it in (before, after))
    rows += [_row(f"boxes of {name}", old[name], new[name]) for name in after.classes]
    counts = pulled.counts
    lines = [
        f"{counts['tasks']} tasks in Label Studio: {counts['finished']} finished, {counts['skipped']} skipped"
        + (f"; {counts['doubles']} show a picture that another shows too" if counts["doubles"] else ""),
        Table("", rows).as_text(markdown=markdown),
    ]
    for what, names in (
        ("added", pulled.union.added),
        ("relabelled", pulled.union.relabelled),
        ("removed", pulled.union.removed),
        ("clipped, straightened or left out", pulled.notes),
    ):
        lines += [f"- {line.strip()}" if markdown else line for line in listed(what, names)]
    if pulled.staying:
        lines.append(f"{pulled.staying} pictures were skipped, or have no task any more; --remove takes them out")
    return ("\n\n" if markdown else "\n").join(lines)


def _gather(server: Server, config: Config, store: Store, project: Path, folder: Path, *, remove: bool) -> Pulled:
    before = current_dataset(config, store, project, folder / "before")
    classes = class_list(config, before)
    its = existing_project(server, config.labels.title)
    annotated, notes = newest_annotations(its, classes, config.labels.rotated)
    tasks = tasks_of(its)
    known = {picture.sha256 for picture in before.pictures}
    shelf = Shelf(its, store, dataset_name(config))
    found = identify(annotated, known, shelf, folder / "fetched")
    without_task = known - {digest_in(task.data) for task in tasks} - found.findings.keys()
    gone = (known & found.skipped) | without_task
    union = unite(before, found.findings, gone if remove else set(), classes, config.prepare.exif_boxes)
    _deal(union, before, config.split)
    _check(union, before, len(found.findings))
    counts = Counter(
        tasks=len(tasks),
        finished=sum(each.boxes is not None for each in annotated),
        skipped=sum(each.boxes is None for each in annotated),
        doubles=found.doubles,
    )
    return Pulled(before, union, counts, 0 if remove else len(gone), notes)


def _deal(union: Union, before: Dataset, settings: SplitConfig) -> None:
    """Assign new pictures to parts when the dataset has parts of its own: their group's part, else as `split` would."""
    if not any(picture.part for picture in before.pictures):
        return
    keys = {_key(picture, settings): picture.part for picture in before.pictures}
    added = set(union.added)
    pictures = union.dataset.pictures
    for place, picture in enumerate(pictures):
        if picture.name in added:
            key = _key(picture, settings)
            pictures[place] = replace(picture, part=keys.get(key) or part_of(key, settings))


def _key(picture: Picture, settings: SplitConfig) -> str:
    return group_key({"source": f"images/{picture.name}", "sha256": picture.sha256}, settings)


def _check(union: Union, before: Dataset, found: int) -> None:
    """Compare counts of pictures, label files and boxes before writing; LabelStudioError when they disagree."""
    pictures = union.dataset.pictures
    expected = len(before.pictures) + len(union.added) - len(union.removed)
    names = {picture.name for picture in pictures}
    files = sum(picture.image.is_file() for picture in pictures)
    if not len(pictures) == len(names) == files == expected or len(union.added) > found:
        raise LabelStudioError(
            f"{len(pictures)} pictures, {len(names)} names, {files} files, but {expected} expected; nothing was "
            "written: this is a mistake in `labels pull`, report it"
        )
    for picture in pictures:
        if not same_boxes(boxes_in(picture.text or b"", union.dataset.classes), picture.boxes):
            raise LabelStudioError(f"{picture.name}: its label file would hold other boxes; nothing was written")


def _differs(pulled: Pulled) -> bool:
    return bool(pulled.union.news) or pulled.before.classes != pulled.union.dataset.classes


def _keep(project: Path, config: Config, pulled: Pulled, scratch_folder: Path) -> str:
    """Write the dataset to a folder and add it as the next version."""
    folder = scratch_folder / "after"
    dataset = pulled.union.dataset
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in dataset.classes), encoding="utf-8")
    for name, file in dataset.about.items():
        link(file, folder / name)
    for picture in dataset.pictures:
        link(picture.image, folder / "images" / picture.name)
        if picture.text is not None:
            (folder / "labels" / f"{picture.name.rpartition('.')[0]}.txt").write_bytes(picture.text)
    for part in PARTS:
        if names := [picture.name for picture in dataset.pictures if picture.part == part]:
            (folder / f"{part}.txt").write_text("".join(f"images/{name}\n" for name in names), encoding="utf-8")
    return add_dataset(folder, project=project, name=dataset_name(config), record=_record(config, pulled))


def _record(config: Config, pulled: Pulled) -> Mapping[str, Any]:
    """Return the record of this version for the flywheel report."""
    return {
        "made_by": "labels pull",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "previous": config.dataset.sha256,
        **_news(pulled.union),
        "origins": dict(pulled.union.origins),
        "label_studio": dict(pulled.counts),
    }


def _news(union: Union) -> dict[str, int]:
    return {"added": len(union.added), "relabelled": len(union.relabelled), "removed": len(union.removed)}


def _row(what: str, before: int, after: int) -> Row:
    return what, str(before), str(after), f"{after - before:+d}" if after != before else ""
