"""Check every picture and label, convert all to one form, and report what was left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runner.config.schema import Prepare
from runner.dataset.labels import Labels, format_labels, parse_labels, turn_boxes
from runner.errors import DatasetError
from runner.stages.parallel import threads
from runner.stages.prepare.findings import Findings
from runner.stages.prepare.pictures import Prepared, prepare_pictures
from runner.stages.prepare.report import write_report
from runner.workspace import link, sha256_of, write_text

PARTS = ("train", "val", "test")
SHOWN = 10  # conflicts listed in a message


def prepare(raw: Path, classes: list[str], settings: Prepare, dataset: Path, report: Path, *, work: Path) -> str:
    """Fill `dataset` with checked pictures and labels, and `report` with the findings; return a line of counts.

    Args:
        raw: classes.txt, images/, labels/; with parts of its own also train.txt, val.txt, test.txt.
        classes: class names in id order; empty: those of `raw`. Ids are matched by name.
        dataset: an empty folder; gets images/, labels/, classes.txt and index.json, a list of
            {image, source, sha256, width, height, labels, part}: width and height in pixels of the upright source,
            image and labels relative to `dataset`, source relative to `raw`.
        report: an empty folder; gets report.json, index.html and the contact sheet.
        work: cache of prepared pictures, which survives a kill.
    Raises:
        DatasetError: the classes do not fit, equal pictures have different labels, or the data gate fails; then the
            report is in `work`/report.
    """
    own_classes = (raw / "classes.txt").read_text(encoding="utf-8").splitlines()
    class_ids = _match_classes(own_classes, classes)
    names = classes or own_classes
    findings = Findings()

    sources = sorted((raw.resolve() / "images").iterdir())  # absolute paths: workers may have another working directory
    findings.pictures = len(sources)
    digests = dict(zip(sources, threads(sha256_of, sources, "reading"), strict=True))
    kept = _usable(prepare_pictures(digests, settings, work / "prepare"), findings)
    labels = {path: _read_labels(raw, path, kept[path].turn, class_ids, settings, findings) for path in kept}
    _leave_out_orphans(raw, sources, findings)
    parts = _parts(raw)
    unique = _without_duplicates(kept, digests, labels, parts, findings)

    index = _write(dataset, unique, kept, digests, labels, parts, work)
    write_text(dataset / "classes.txt", "".join(f"{name}\n" for name in names))
    write_text(dataset / "index.json", json.dumps(index, indent=1, ensure_ascii=False) + "\n")

    boxes = {path.stem: labels[path] for path in unique}
    summary = findings.summary(names, boxes)
    write_report(report, summary, dataset, index, boxes, names)
    if refusals := findings.refusals(summary, settings):
        kept_report = work / "report"
        shutil.rmtree(kept_report, ignore_errors=True)
        shutil.copytree(report, kept_report)
        raise DatasetError(
            "the dataset does not pass the data gate:\n  "
            + "\n  ".join(refusals)
            + f"\nevery reason stands in {kept_report / 'index.html'}; mend the dataset, or change the limits in "
            "params.yaml"
        )
    return (
        f"{len(unique)} of {findings.pictures} pictures, {sum(summary['boxes'].values())} boxes; "
        f"{len(findings.left_out)} things left out, {len(findings.notes)} repaired (see artifacts/report/index.html)"
    )


def _match_classes(own: list[str], configured: list[str]) -> list[int]:
    """Return the configured id for each of the dataset's class ids."""
    if not configured:
        return list(range(len(own)))
    if missing := [name for name in own if name not in configured]:
        raise DatasetError(
            f"classes.txt lists {', '.join(missing)}, which dataset.classes ({', '.join(configured)}) does not; "
            "add them there, or leave dataset.classes empty"
        )
    return [configured.index(name) for name in own]


def _usable(pictures: Mapping[Path, Prepared | str], findings: Findings) -> dict[Path, Prepared]:
    usable = {}
    for path, picture in pictures.items():
        if isinstance(picture, str):
            findings.unusable_pictures += 1
            findings.leave_out(f"images/{path.name}", picture)
        else:
            usable[path] = picture
    return usable


def _read_labels(
    raw: Path, picture: Path, turn: int, class_ids: list[int], settings: Prepare, findings: Findings
) -> Labels:
    """Read a picture's labels, with ids of the class list and turned as the picture was."""
    file = raw / "labels" / f"{picture.stem}.txt"
    text = file.read_bytes() if file.is_file() else b""
    labels = parse_labels(text, where=f"labels/{file.name}", classes=len(class_ids))
    for problem in labels.problems:
        where, _, reason = problem.partition(": ")
        findings.leave_out(where, reason)
    findings.notes += labels.notes
    findings.label_lines += len(labels.class_ids) + len(labels.problems)
    findings.unusable_lines += len(labels.problems)
    return Labels(
        np.array([class_ids[number] for number in labels.class_ids], dtype=np.int64),
        turn_boxes(labels.boxes_xywhn, turn if settings.exif_boxes == "stored" else 1),
        labels.problems,
        labels.notes,
    )


def _leave_out_orphans(raw: Path, sources: list[Path], findings: Findings) -> None:
    """Note the label files without a picture; their lines count as unusable."""
    for orphan in sorted({path.stem for path in (raw / "labels").glob("*.txt")} - {path.stem for path in sources}):
        lines = sum(bool(line.strip()) for line in (raw / "labels" / f"{orphan}.txt").read_bytes().splitlines())
        findings.label_lines += lines
        findings.unusable_lines += lines
        findings.leave_out(
            f"labels/{orphan}.txt", f"{lines} lines, but no picture of this name; expected one in images/"
        )


def _parts(raw: Path) -> dict[str, str]:
    """Return the dataset's own part of each `images/<name>`; empty when it has no parts."""
    return {
        line: part
        for part in PARTS
        if (raw / f"{part}.txt").is_file()
        for line in (raw / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    }


def _without_duplicates(
    pictures: Iterable[Path],
    digests: dict[Path, str],
    labels: dict[Path, Labels],
    parts: dict[str, str],
    findings: Findings,
) -> list[Path]:
    """Keep one of equal pictures: the one in test before val before train, then the first by name.

    Equal pictures with different labels raise DatasetError, because one of them is wrong.
    """

    def rank(path: Path) -> tuple[int, str]:
        part = parts.get(f"images/{path.name}", "train")
        return -PARTS.index(part), path.name

    first: dict[str, Path] = {}
    conflicts = []
    for path in sorted(pictures, key=rank):
        twin = first.setdefault(digests[path], path)
        if twin is path:
            continue
        if _sorted_lines(labels[twin]) == _sorted_lines(labels[path]):
            findings.duplicates += 1
            findings.leave_out(f"images/{path.name}", f"the same bytes and labels as images/{twin.name}, which is kept")
        else:
            conflicts.append(f"images/{twin.name} and images/{path.name}")
    if conflicts:
        more = f"\n  and {len(conflicts) - SHOWN} more" if len(conflicts) > SHOWN else ""
        raise DatasetError(
            "the same picture carries different labels; keep the right one of each pair:\n  "
            + "\n  ".join(conflicts[:SHOWN])
            + more
        )
    return sorted(first.values())


def _sorted_lines(labels: Labels) -> list[str]:
    return sorted(format_labels(labels.class_ids, labels.boxes_xywhn).splitlines())


def _write(
    dataset: Path,
    pictures: list[Path],
    prepared: dict[Path, Prepared],
    digests: dict[Path, str],
    labels: dict[Path, Labels],
    parts: dict[str, str],
    work: Path,
) -> list[dict[str, Any]]:
    """Write pictures and labels into `dataset`; return the entries of index.json."""
    (dataset / "images").mkdir()
    (dataset / "labels").mkdir()
    index = []
    for path in pictures:
        picture = prepared[path]
        entry = {
            "image": f"images/{path.stem}{picture.suffix}",
            "source": f"images/{path.name}",
            "sha256": digests[path],
            "width": picture.width,
            "height": picture.height,
            "labels": f"labels/{path.stem}.txt",
            "part": parts.get(f"images/{path.name}"),
        }
        link(path if picture.stored is None else work / "prepare" / picture.stored, dataset / str(entry["image"]))
        text = format_labels(labels[path].class_ids, labels[path].boxes_xywhn)
        (dataset / str(entry["labels"])).write_text(text, encoding="utf-8")
        index.append(entry)
    return index
