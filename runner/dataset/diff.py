"""`dataset diff`: the difference between two versions of a dataset."""

from pathlib import Path
from typing import NamedTuple

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.dataset.index import Index
from runner.dataset.versions import find_version, open_version
from runner.store import open_store
from runner.tables import Row, Table
from runner.workspace import scratch, work_folder


class Changes(NamedTuple):
    """Names of the changed pictures, sorted."""

    added: list[str]
    relabelled: list[str]  # the same bytes with other boxes, or boxes of other class names
    removed: list[str]


def diff_versions(project: Path, before: str, after: str) -> str:
    """Return a table of the counts of two versions, and the names of the changed pictures.

    A version is named by store:datasets/<name>/<sha12>.jsonl, or its 12 digits for one of the dataset in params.yaml.
    """
    config, _ = compose(project)
    store, work = open_store(project), work_folder(project)
    with scratch("dataset-diff-", project) as folder:
        versions = [find_version(store, config.dataset.name, text) for text in (before, after)]
        old, new = (
            open_version(*each, store, folder / str(number), work=work)[0] for number, each in enumerate(versions)
        )
    changes = compare(old, new)
    lists = zip(Changes._fields, changes, strict=True)
    return "\n".join([count_table(old, new).as_text(), *(line for lines in lists for line in listed(*lines))])


def compare(before: Index, after: Index) -> Changes:
    """Return the changes, by the pictures' digests."""
    old, new = _labels(before), _labels(after)
    names = {row.sha256: row.name for row in (*before.rows, *after.rows)}
    relabelled = {sha256 for sha256 in old.keys() & new.keys() if old[sha256] != new[sha256]}
    sets = (new.keys() - old.keys(), relabelled, old.keys() - new.keys())
    return Changes(*(sorted(names[sha256] for sha256 in each) for each in sets))


def count_table(before: Index, after: Index) -> Table:
    """Return the numbers of pictures and of boxes of each class, before and after."""
    rows: list[Row] = [("", "before", "after", "change")]
    rows.append(_row("pictures", len(before.rows), len(after.rows)))
    rows.append(_row("without a box", *(sum(not row.labels for row in index.rows) for index in (before, after))))
    old, new = (dict(zip(index.classes, index.boxes, strict=True)) for index in (before, after))
    rows += [_row(f"boxes of {name}", old.get(name, 0), new.get(name, 0)) for name in {**new, **old}]
    return Table("", rows)


def _row(name: str, before: int, after: int) -> Row:
    return name, str(before), str(after), f"{after - before:+d}" if after != before else ""


def _labels(index: Index) -> dict[str, set[str]]:
    """Return digest → label lines with class names; equal pictures together."""
    labels: dict[str, set[str]] = {}
    for row in index.rows:
        lines = (line.partition(" ") for line in row.labels.splitlines())
        labels.setdefault(row.sha256, set()).update(f"{index.classes[int(number)]} {box}" for number, _, box in lines)
    return labels
