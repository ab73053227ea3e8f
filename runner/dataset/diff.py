"""`dataset diff`: the difference between two versions of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.dataset.index import Index, PictureRow
from runner.dataset.labels import Labels, parse_labels
from runner.dataset.picture_cache import fetch_pictures
from runner.dataset.versions import find_version, open_version
from runner.errors import DatasetError
from runner.store import Store, key_of_url, open_store
from runner.tables import Row, Table
from runner.workspace import scratch, work_folder, writing

MOST_DRAWN = 48  # pictures of a sheet
SHEET_COLUMNS = 6
_SHEETS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


class Changes(NamedTuple):
    """Rows of the changed pictures, sorted by name: those of the version after, `removed` of the one before."""

    added: list[PictureRow]
    relabelled: list[PictureRow]  # the same bytes with other boxes, or boxes of other class names
    removed: list[PictureRow]


@dataclass(frozen=True)
class OpenedVersion:
    """A version, and where its pictures are."""

    index: Index
    files: Mapping[str, Path]  # by digest, of a zip; else the store has them
    key: str  # of the version


def diff_versions(project: Path, before: str, after: str, sheet: Path | None = None) -> str:
    """Return a table of the counts of two versions, and the names of the changed pictures.

    A version is named by store:datasets/<name>/<sha12>.jsonl, or its 12 digits for one of the dataset in params.yaml.
    `sheet` is a JPEG or PNG to write, with the first changed pictures and their boxes. DatasetError: it is neither.
    """
    if sheet and sheet.suffix.lower() not in _SHEETS:
        raise DatasetError(f"--sheet {sheet}: expected a name that ends with {', '.join(_SHEETS)}")
    config, _ = compose(project)
    store, work, versions = open_store(project), work_folder(project), list[OpenedVersion]()
    with scratch("dataset-diff-", project) as folder:
        for text in (before, after):
            url, sha256 = find_version(store, config.dataset.name, text)
            opened = open_version(url, sha256, store, folder / str(len(versions)), work=work)
            versions.append(OpenedVersion(*opened, key_of_url(url)))
        old, new = (version.index for version in versions)
        changes = compare(old, new)
        if sheet:
            with writing(sheet) as temporary:
                drawn = draw_changes(versions, changes, store, work)
                drawn.save(temporary, _SHEETS[sheet.suffix.lower()], quality=88)
    lines = [count_table(old, new).as_text()]
    for title, rows in zip(Changes._fields, changes, strict=True):
        lines += listed(title, [row.name for row in rows])
    return "\n".join([*lines, *([f"drawn in {sheet}"] if sheet else [])])


def compare(before: Index, after: Index) -> Changes:
    """Return the changes, by the pictures' digests."""
    old, new = _labels(before), _labels(after)
    rows = {row.sha256: row for row in (*before.rows, *after.rows)}
    relabelled = {sha256 for sha256 in old.keys() & new.keys() if old[sha256] != new[sha256]}
    sets = (new.keys() - old.keys(), relabelled, old.keys() - new.keys())
    return Changes(*(sorted((rows[sha256] for sha256 in each), key=lambda row: row.name) for each in sets))


def draw_changes(versions: list[OpenedVersion], changes: Changes, store: Store, work: Path) -> Image.Image:
    """Draw the first changed pictures with their boxes, relabelled ones before and after side by side."""
    from runner.dataset.sheet import draw_sheet

    old, new = versions
    earlier = {row.sha256: row for row in old.index.rows}
    drawn: list[tuple[OpenedVersion, PictureRow, str]] = []
    for row in changes.relabelled:
        drawn += [(old, earlier[row.sha256], f"{row.name}: before"), (new, row, f"{row.name}: after")]
    drawn += [(new, row, f"{row.name}: added") for row in changes.added]
    drawn += [(old, row, f"{row.name}: removed") for row in changes.removed]
    names = list(dict.fromkeys(old.index.classes + new.index.classes))
    pictures = []
    folders = {}
    for version in versions:
        wanted = [row for each, row, _ in drawn[:MOST_DRAWN] if each is version]
        if not version.files:
            folders[version.key] = fetch_pictures(
                Index([], {}, wanted).sizes, store, version.key, work=work, hashed=True
            )
    for version, row, caption in drawn[:MOST_DRAWN]:
        file = version.files.get(row.sha256) or folders[version.key] / row.sha256
        found = parse_labels(row.labels.encode(), where="", classes=len(version.index.classes))
        ids = np.array([names.index(version.index.classes[number]) for number in found.class_ids], dtype=np.int64)
        pictures.append((file, Labels(ids, found.boxes_xywhn, [], []), caption))
    return draw_sheet(pictures, names, SHEET_COLUMNS)


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
