"""`labels pull`: the current dataset and all finished annotations become the next version of the dataset."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from runner.config.compose import compose
from runner.config.edit import get_param
from runner.config.schema import Config
from runner.dataset.check import listed
from runner.dataset.diff import OpenedVersion, count_table
from runner.dataset.index import Index
from runner.dataset.versions import name_version, store_version
from runner.errors import GitError
from runner.forge.pull_request import changed_files
from runner.label_studio.changes_report import changes_table, draw_sheet, origins_text, suspects_text
from runner.label_studio.label_changes import LabelChanges, LabelReader, read_changes
from runner.label_studio.labelled_dataset import PULL, class_list, current_dataset, dataset_name
from runner.label_studio.merge import MergedDataset, assign_parts, check_merged, merge
from runner.label_studio.proposal import Proposal, open_pull_request
from runner.label_studio.server import connected
from runner.label_studio.task_images import TaskImages
from runner.label_studio.task_states import TaskStates, format_states, newest_of_pictures, read_states, states_key
from runner.store import SCHEME, Store, key_of_url, open_store
from runner.workspace import PARAMS, scratch, write_text

NO_ANNOTATION, NO_TASK = "whose task has no annotation (any more)", "without a task (any more)"


class PullResult(NamedTuple):
    """The next dataset, and how it differs from the current one."""

    before: Index
    files: dict[str, Path]  # of its pictures, by digest, where the store has them in a zip
    merged: MergedDataset
    counts: Counter[str]  # in Label Studio: tasks, finished, skipped; doubles: tasks with the picture of another one
    unfinished: dict[str, list[str]]  # reason → names of the dataset's pictures without a finished annotation
    removed: bool  # whether those were left out (--remove)
    changes: LabelChanges
    disputed: list[str]  # `name: address` of each changed picture that two people annotated differently


def pull(project: Path, *, remove: bool = False, pull_request: bool = False, proposal: Path | None = None) -> str:
    """Add the next version of the dataset and name it in params.yaml, if anything changed; return the changes as text.

    `remove`: leave out the dataset's pictures without a finished annotation. `pull_request`: propose the version in a
    pull request when at least `labels.min_new` pictures changed; params.yaml stays as it is. `proposal`: as
    `pull_request`, but write what it would say to that file, for `labels propose`, which decodes no picture.
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
        if not is_new:
            _note_states(store, config.dataset.url, config, result)
        if (pull_request or proposal) and (not is_new or changed < config.labels.min_new):
            return f"{text}\nno pull request: {changed} pictures changed, labels.min_new is {config.labels.min_new}"
        if not is_new:
            return f"{text}\nnothing is new"
        if not (pull_request or proposal):
            return f"{text}\n{_add_version(project / PARAMS, config, store, result, folder)}"
        made = _proposal(project, config, store, result, folder)
        if proposal:
            write_text(proposal, made.model_dump_json())
        return f"{text}\n{f'{proposal}: written' if proposal else open_pull_request(project, made)}"


def describe(result: PullResult, *, markdown: bool = False) -> str:
    """Return a table of the changes, and the names of the pictures, each list in their order."""
    counts, merged = result.counts, result.merged
    lines = [
        f"{counts['tasks']} tasks in Label Studio: {counts['finished']} finished, {counts['skipped']} skipped"
        + (f"; {counts['doubles']} with the picture of another task" if counts["doubles"] else "")
        + (f" ({result.changes.read} read, the others did not change)" if result.changes.read is not None else ""),
        (changes_table if markdown else count_table)(result.before, merged.index).as_text(markdown=markdown),
    ]
    for title, names in (
        ("added", merged.added),
        ("relabelled", merged.relabelled),
        ("removed", merged.removed),
        ("annotated differently by two people, of which the newest counts", result.disputed),
        ("boxes clipped, replaced or left out", result.changes.notes),
    ):
        lines += _list(title, sorted(names), markdown)
    if not result.removed and any(result.unfinished.values()):
        reasons = ", ".join(f"{len(names)} {reason}" for reason, names in result.unfinished.items() if names)
        lines.append(
            f"pictures of the dataset without a finished annotation: {reasons}; they stay with the boxes that they "
            "have, and --remove leaves them out"
        )
        for reason, names in result.unfinished.items():
            if reason != NO_TASK:  # often the whole dataset, where it was never imported
                lines += _list(reason, sorted(names), markdown)
    return ("\n\n" if markdown else "\n").join(lines)


def _list(title: str, names: list[str], markdown: bool) -> list[str]:
    lines = listed(title, names)
    if markdown and lines:
        head, *rest = lines
        return [f"### {head.rstrip(':').capitalize()}", "\n".join(f"- {line.strip()}" for line in rest)]
    return lines


def _merge_annotations(project: Path, config: Config, store: Store, folder: Path, *, remove: bool) -> PullResult:
    rotated = config.labels.rotated
    with connected() as server:
        before, files = current_dataset(config, store, project, folder / "before")
        classes = class_list(config, before)
        labels_project = server.project(config.labels.title)
        images = TaskImages(labels_project, store, dataset_name(config))
        known = {row.sha256 for row in before.rows}
        reader = LabelReader(labels_project, images, known, classes, rotated, folder / "fetched")
        changes = read_changes(reader, read_states(store, config.dataset.url, classes, rotated))
    newest = newest_of_pictures(changes.states)
    unfinished = _unfinished(before, changes.states, newest)
    gone = {sha256 for digests in unfinished.values() for sha256 in digests} if remove else set()
    merged = merge(before, changes.newest, gone, classes)
    assign_parts(merged, before, config.split)
    check_merged(merged, before)
    states = changes.states.values()
    annotated = [state for state in states if state.time_us is not None]
    counts = Counter(
        tasks=len(states),
        finished=sum(state.finished for state in annotated),
        skipped=sum(not state.finished for state in annotated),
        doubles=sum(bool(state.sha256) for state in annotated) - len(newest),
    )
    names = {row.sha256: row.name for row in (*before.rows, *merged.index.rows)}
    changed = {*merged.added, *merged.relabelled}
    disputed = [
        f"{names[sha256]}: {labels_project.task_address(each.task)}"
        for sha256, each in changes.newest.items()
        if each.disputed and names.get(sha256) in changed
    ]
    by_reason = {reason: [names[sha256] for sha256 in digests] for reason, digests in unfinished.items()}
    return PullResult(before, files, merged, counts, by_reason, remove, changes, disputed)


def _unfinished(before: Index, states: TaskStates, newest: Mapping[str, int]) -> dict[str, set[str]]:
    """Return reason → digests of the dataset's pictures without a finished annotation.

    `newest` is digest → task with the newest annotation.
    """
    known, in_tasks = {row.sha256 for row in before.rows}, {state.sha256 for state in states.values()}
    return {
        "skipped": {sha256 for sha256 in known & newest.keys() if not states[newest[sha256]].finished},
        NO_ANNOTATION: known & in_tasks - newest.keys(),
        NO_TASK: known - in_tasks - newest.keys(),
    }


def _add_version(params: Path, config: Config, store: Store, result: PullResult, folder: Path) -> str:
    """Store the next version, with a record for the flywheel report, and name it in params.yaml."""
    merged, name = result.merged, dataset_name(config)
    record = {
        "made_by": PULL,
        "previous": config.dataset.sha256,
        **merged.counts,
        "origins": dict(merged.origins),
        "label_studio": dict(result.counts),
    }
    url, sha256, stored = store_version(store, name, merged.index, result.files | merged.files, record, work=folder)
    _note_states(store, url, config, result)
    return f"{stored}\n{name_version(params, name, url, sha256)}"


def _note_states(store: Store, url: str, config: Config, result: PullResult) -> None:
    """Store the tasks' states beside the version that has their annotations; states that are there stay true."""
    if url.startswith(SCHEME) and not store.exists(key := states_key(key_of_url(url))):
        store.create(key, format_states(result.changes.states, result.merged.index.classes, config.labels.rotated))


def _proposal(project: Path, config: Config, store: Store, result: PullResult, folder: Path) -> Proposal:
    """Add the version; return the pull request with the new params.yaml. The one of the checkout stays as it is."""
    params = Path(shutil.copyfile(project / PARAMS, folder / PARAMS.name))
    _add_version(params, config, store, result, folder)
    url, version = (get_param(params, ("dataset", key)) or "" for key in ("url", "sha256"))
    title = f"Labels: {', '.join(f'{count} {change}' for change, count in result.merged.counts.items() if count)}"
    parts = [
        describe(result, markdown=True),
        origins_text(result.merged, result.changes.newest),
        suspects_text(project, config, result.merged),
    ]
    if config.dataset.sha256:
        sides = f"{config.dataset.sha256[:12]} {version[:12]}"
        parts.append(f"The changed pictures, drawn: `python -m runner dataset diff {sides} --sheet changes.jpg`")
    picture = None
    if config.labels.sheet:
        before = OpenedVersion(
            result.before, result.files, key_of_url(config.dataset.url) if result.before.rows else ""
        )
        after = OpenedVersion(result.merged.index, {}, key_of_url(url))
        picture = draw_sheet(before, after, store, project)
    body = "\n\n".join(filter(None, parts))
    return Proposal(params=params.read_text(encoding="utf-8"), title=title, body=body, picture=picture)
