"""Check every picture and label, convert all to one form, and report the files left out."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from runner.config.schema import PARTS, PrepareConfig
from runner.dataset.duplicates import SHOWN_PAIRS, Copy, describe_pairs, sort_copies
from runner.dataset.entries import Entry, write_entries
from runner.dataset.index import Index, PictureRow
from runner.dataset.labels import ClassIds, Labels, format_labels, parse_labels
from runner.errors import DatasetError
from runner.stages.prepare.findings import Findings
from runner.stages.prepare.pictures import Bring, Prepared, prepare_pictures
from runner.stages.prepare.report import choose_shown, write_report
from runner.workspace import write_text

Classes = list[str] | dict[str, str | None]


def prepare(
    raw: Index, classes: Classes, settings: PrepareConfig, dataset: Path, report: Path, *, work: Path, bring: Bring
) -> str:
    """Fill `dataset` with the index of usable pictures, and `report` with the findings; return a line of counts.

    Args:
        raw: what `fetch` wrote.
        classes: class names in id order; empty: those of `raw`. Ids are matched by name. Or a mapping of names of `raw`
            to others, several to one, None to leave the class out; the other classes stay, after them.
        dataset: an empty folder; gets classes.txt and index.jsonl (see `runner.dataset.entries`).
        report: an empty folder; gets report.json, index.html and the contact sheet.
        work: what is known of pictures, which survives a kill; gets report/ when the data gate fails.
        bring: gives the folder with the pictures that are decoded.
    """
    names, class_ids = _match_classes(raw.classes, classes)
    findings = Findings()
    rows = sorted(raw.rows, key=lambda row: row.name)
    findings.pictures = len(rows)
    prepared = prepare_pictures({row.sha256: row.size_bytes for row in rows}, settings, work, bring)
    for row in rows:
        picture = prepared[row.sha256]
        if isinstance(picture, str):
            findings.unusable_pictures += 1
            findings.leave_out(f"images/{row.name}", picture)
        elif picture.note:
            findings.notes.append(f"images/{row.name}: {picture.note}")
    copies = _find_copies([row for row in rows if isinstance(prepared[row.sha256], Prepared)], class_ids)
    leaving = _leaving(copies, settings.duplicates, names, work / "duplicates.jpg", bring)
    part_of = _parts_of(copies)
    kept: list[PictureRow] = []

    def entries() -> Iterator[Entry]:  # one at a time: the labels of all pictures would take most of the memory
        for row in rows:
            picture = prepared[row.sha256]
            if isinstance(picture, str):
                continue
            labels = _read_labels(row, class_ids, findings)
            if labels.unusable:
                findings.unusable_pictures += 1
                findings.leave_out(f"images/{row.name}", labels.unusable)
            elif f"images/{row.name}" not in leaving:
                kept.append(row)
                findings.keep(labels)
                yield _entry(row, picture, part_of.get(row.sha256, row.part), labels)

    write_entries(dataset, entries())
    findings.notes += [
        f"dataset.classes leaves out {count:,} boxes of {raw.classes[class_id]}"
        for class_id, count in sorted(findings.unwanted.items())
    ]
    for name, reason in sorted(leaving.items()):
        findings.duplicates += 1
        findings.leave_out(name, reason)
    write_text(dataset / "classes.txt", "".join(f"{name}\n" for name in names))

    summary = findings.summary(names)
    summary["refused"] = refusals = findings.refusals(summary, settings)
    shown = choose_shown(kept)
    folder = bring({row.sha256: row.size_bytes for row in shown})
    drawn = [(folder / row.sha256, _read_labels(row, class_ids, Findings())) for row in shown]
    write_report(report, summary, drawn, findings.sides, names)
    kept_report = work / "report"
    shutil.rmtree(kept_report, ignore_errors=True)
    if refusals:
        shutil.copytree(report, kept_report)
        raise DatasetError(
            "the dataset does not pass the data gate:\n  "
            + "\n  ".join(refusals)
            + f"\nall reasons: {kept_report / 'index.html'}; correct the dataset, or change the limits in params.yaml"
        )
    return (
        f"{len(kept)} of {findings.pictures} pictures, {sum(summary['boxes'].values())} boxes; "
        f"{len(findings.left_out)} things left out, {len(findings.notes)} repaired (see artifacts/report/index.html)"
    )


def _match_classes(own: list[str], configured: Classes) -> tuple[list[str], ClassIds]:
    """Return the class names, and the id among them for each of the dataset's class ids; -1: it is left out."""
    if isinstance(configured, dict):
        if unknown := [name for name in configured if name not in own]:
            raise DatasetError(
                f"dataset.classes maps {', '.join(unknown)}, which classes.txt ({', '.join(own)}) does not list; "
                "correct or remove it there"
            )
        targets = [*configured.values(), *(name for name in own if name not in configured)]
        names = [name for name in dict.fromkeys(targets) if name is not None]
        if not names:
            raise DatasetError(
                "dataset.classes leaves out every class of the dataset, expected at least one that stays"
            )
        new = [configured.get(name, name) for name in own]
        return names, np.array([-1 if name is None else names.index(name) for name in new], np.int64)
    if not configured:
        return own, np.arange(len(own))
    if missing := [name for name in own if name not in configured]:
        raise DatasetError(
            f"classes.txt lists {', '.join(missing)}, which dataset.classes ({', '.join(configured)}) does not; "
            "add them there, leave dataset.classes empty, or map the names: {car: vehicle, truck: vehicle, person: }"
        )
    return configured, np.array([configured.index(name) for name in own], np.int64)


def _read_labels(row: PictureRow, class_ids: ClassIds, findings: Findings) -> Labels:
    """Read a picture's labels, with ids of the class list; their boxes are of the upright picture."""
    labels = parse_labels(row.labels.encode(), where=f"labels/{_stem(row)}.txt", classes=len(class_ids))
    for problem in labels.problems:
        where, _, reason = problem.partition(": ")
        findings.leave_out(where, reason)
    findings.notes += labels.notes
    findings.label_lines += len(labels.class_ids) + len(labels.problems)
    findings.unusable_lines += len(labels.problems)
    findings.clipped += labels.clipped
    ids = class_ids[labels.class_ids]
    kept = ids >= 0
    findings.unwanted.update(labels.class_ids[~kept].tolist())
    seen = set()
    for place, box in enumerate(zip(ids.tolist(), map(tuple, labels.boxes_xywhn.tolist()), strict=True)):
        if box in seen and kept[place]:  # of two classes that dataset.classes makes one
            kept[place] = False
            findings.notes.append(f"labels/{_stem(row)}.txt: two boxes are equal by dataset.classes, kept once")
        seen.add(box)
    return Labels(ids[kept], labels.boxes_xywhn[kept], labels.problems, labels.notes)


def _stem(row: PictureRow) -> str:
    return row.name.rpartition(".")[0]


def _entry(row: PictureRow, picture: Prepared, part: str | None, labels: Labels) -> Entry:
    """Return the line of the index, as `runner.dataset.entries` describes it."""
    return {
        "image": f"images/{_stem(row)}{picture.suffix}",
        "source": f"images/{row.name}",
        "sha256": row.sha256,
        "bytes": row.size_bytes,
        "encoded": picture.encoded,
        "width": picture.width,
        "height": picture.height,
        "part": part,
        "look": picture.look,
        "labels": format_labels(labels.class_ids, labels.boxes_xywhn),
    }


def _find_copies(rows: list[PictureRow], class_ids: ClassIds) -> list[tuple[PictureRow, Labels]]:
    """Return the pictures that are there more than once and whose labels can be used, with these."""
    count = Counter(row.sha256 for row in rows)
    read = ((row, _read_labels(row, class_ids, Findings())) for row in rows if count[row.sha256] > 1)
    return [(row, labels) for row, labels in read if not labels.unusable]


def _leaving(
    copies: list[tuple[PictureRow, Labels]],
    rule: Literal["refuse", "labelled"],
    names: list[str],
    sheet: Path,
    bring: Bring,
) -> dict[str, str]:
    """Return the copies that leave, images/<name> → reason; one of equal pictures stays.

    DatasetError, and a drawn `sheet`, where labels differ and `rule` is refuse.
    """
    leaving, pairs = sort_copies(
        [Copy(f"images/{row.name}", row.sha256, row.part, labels, Path()) for row, labels in copies], rule
    )
    if pairs:
        sizes = {row.sha256: row.size_bytes for row, _ in copies}
        folder = bring({one.sha256: sizes[one.sha256] for one, _ in pairs[:SHOWN_PAIRS]})
        placed = [
            (one._replace(file=folder / one.sha256), other._replace(file=folder / other.sha256)) for one, other in pairs
        ]
        raise DatasetError(describe_pairs(placed, names, sheet))
    return leaving


def _parts_of(copies: list[tuple[PictureRow, Labels]]) -> dict[str, str]:
    """Return digest → the last of the parts that the copies of a picture have: what is measured on is not trained on,
    whosever labels are kept.
    """
    parts: dict[str, str] = {}
    for row, _ in copies:
        if row.part:
            parts[row.sha256] = max(parts.get(row.sha256, PARTS[0]), row.part, key=PARTS.index)
    return parts
