"""Check every picture and label, convert all to one form, and report the files left out."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runner.config.schema import PARTS, PrepareConfig
from runner.dataset.duplicates import Copy, describe_pairs, sort_copies
from runner.dataset.labels import Labels, format_labels, parse_labels
from runner.errors import DatasetError
from runner.stages.parallel import threads
from runner.stages.prepare.findings import Findings
from runner.stages.prepare.pictures import Prepared, prepare_pictures
from runner.stages.prepare.report import write_report
from runner.workspace import link, sha256_of, write_text

Classes = list[str] | dict[str, str | None]


@dataclass(frozen=True)
class CheckedPicture:
    """A usable picture with its labels."""

    source: Path
    sha256: str
    picture: Prepared
    labels: Labels
    part: str | None  # the dataset's own part; None where it has no parts

    @property
    def name(self) -> str:
        """Path relative to `raw`."""
        return f"images/{self.source.name}"

    @property
    def lines(self) -> str:
        """Label file."""
        return format_labels(self.labels.class_ids, self.labels.boxes_xywhn)


def prepare(raw: Path, classes: Classes, settings: PrepareConfig, dataset: Path, report: Path, *, work: Path) -> str:
    """Fill `dataset` with checked pictures and labels, and `report` with the findings; return a line of counts.

    Args:
        raw: classes.txt, images/, labels/; with parts of its own also train.txt, val.txt, test.txt.
        classes: class names in id order; empty: those of `raw`. Ids are matched by name. Or a mapping of names of `raw`
            to others, several to one, None to leave the class out; the other classes stay, after them.
        dataset: an empty folder; gets images/, labels/, classes.txt and index.json, a list of
            {image, source, sha256, width, height, labels, part, look}: width and height in pixels of the upright
            source, image and labels relative to `dataset`, source relative to `raw`, look as by `look_of`.
        report: an empty folder; gets report.json, index.html and the contact sheet.
        work: cache of prepared pictures, which survives a kill; gets report/ when the data gate fails.
    """
    own_classes = (raw / "classes.txt").read_text(encoding="utf-8").splitlines()
    names, class_ids = _match_classes(own_classes, classes)
    findings = Findings()

    sources = sorted((raw.resolve() / "images").iterdir())  # absolute paths: workers may have another working directory
    findings.pictures = len(sources)
    digests = dict(zip(sources, threads(sha256_of, sources, "reading"), strict=True))
    parts = _parts(raw)
    usable = {}
    for path, picture in prepare_pictures(digests, settings, work / "prepare").items():
        if isinstance(picture, str):
            findings.unusable_pictures += 1
            findings.leave_out(f"images/{path.name}", picture)
        else:
            usable[path] = picture
            findings.notes += [f"images/{path.name}: {picture.note}"] if picture.note else []
    candidates = []
    for path, picture in usable.items():
        labels = _read_labels(raw, path, class_ids, findings)
        if labels.unusable:
            findings.unusable_pictures += 1
            findings.leave_out(f"images/{path.name}", labels.unusable)
            continue
        candidates.append(CheckedPicture(path, digests[path], picture, labels, parts.get(f"images/{path.name}")))
    _leave_out_orphans(raw, sources, findings)
    findings.notes += [
        f"dataset.classes leaves out {count:,} boxes of {own_classes[class_id]}"
        for class_id, count in sorted(findings.unwanted.items())
    ]
    unique = _without_duplicates(candidates, settings.duplicates, names, findings, work / "duplicates.jpg")

    index = _write(dataset, unique, work)
    write_text(dataset / "classes.txt", "".join(f"{name}\n" for name in names))
    write_text(dataset / "index.json", json.dumps(index, indent=1, ensure_ascii=False) + "\n")

    boxes = {each.source.stem: each.labels for each in unique}
    summary = findings.summary(names, boxes)
    summary["refused"] = refusals = findings.refusals(summary, settings)
    write_report(report, summary, dataset, index, boxes, names)
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
        f"{len(unique)} of {findings.pictures} pictures, {sum(summary['boxes'].values())} boxes; "
        f"{len(findings.left_out)} things left out, {len(findings.notes)} repaired (see artifacts/report/index.html)"
    )


def _match_classes(own: list[str], configured: Classes) -> tuple[list[str], list[int]]:
    """Return the class names, and the id among them for each of the dataset's class ids; -1: it is left out."""
    if isinstance(configured, dict):
        if unknown := [name for name in configured if name not in own]:
            raise DatasetError(
                f"dataset.classes maps {', '.join(unknown)}, which classes.txt ({', '.join(own)}) does not list; "
                "correct or remove it there"
            )
        targets = [*configured.values(), *(name for name in own if name not in configured)]
        names = [name for name in dict.fromkeys(targets) if name is not None]
        new = [configured.get(name, name) for name in own]
        return names, [-1 if name is None else names.index(name) for name in new]
    if not configured:
        return own, list(range(len(own)))
    if missing := [name for name in own if name not in configured]:
        raise DatasetError(
            f"classes.txt lists {', '.join(missing)}, which dataset.classes ({', '.join(configured)}) does not; "
            "add them there, leave dataset.classes empty, or map the names: {car: vehicle, truck: vehicle, person: }"
        )
    return configured, [configured.index(name) for name in own]


def _read_labels(raw: Path, picture: Path, class_ids: list[int], findings: Findings) -> Labels:
    """Read a picture's labels, with ids of the class list; their boxes are of the upright picture."""
    file = raw / "labels" / f"{picture.stem}.txt"
    text = file.read_bytes() if file.is_file() else b""
    labels = parse_labels(text, where=f"labels/{file.name}", classes=len(class_ids))
    for problem in labels.problems:
        where, _, reason = problem.partition(": ")
        findings.leave_out(where, reason)
    findings.notes += labels.notes
    findings.label_lines += len(labels.class_ids) + len(labels.problems)
    findings.unusable_lines += len(labels.problems)
    findings.clipped += labels.clipped
    ids = np.array([class_ids[number] for number in labels.class_ids], dtype=np.int64)
    kept = ids >= 0
    findings.unwanted.update(labels.class_ids[~kept].tolist())
    return Labels(ids[kept], labels.boxes_xywhn[kept], labels.problems, labels.notes)


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
    candidates: list[CheckedPicture],
    rule: Literal["refuse", "labelled"],
    names: list[str],
    findings: Findings,
    sheet: Path,
) -> list[CheckedPicture]:
    """Keep one of equal pictures; DatasetError, and a drawn `sheet`, where labels differ and `rule` is refuse."""
    copies = [Copy(each.name, each.sha256, each.part, each.labels, each.source) for each in candidates]
    leaving, pairs = sort_copies(copies, rule)
    if pairs:
        raise DatasetError(describe_pairs(pairs, names, sheet))
    for name, reason in sorted(leaving.items()):
        findings.duplicates += 1
        findings.leave_out(name, reason)
    return sorted((each for each in candidates if each.name not in leaving), key=lambda each: each.source)


def _write(dataset: Path, candidates: list[CheckedPicture], work: Path) -> list[dict[str, Any]]:
    """Write pictures and labels into `dataset`; return the entries of index.json."""
    (dataset / "images").mkdir()
    (dataset / "labels").mkdir()
    index = []
    for each in candidates:
        picture = each.picture
        entry: dict[str, Any] = {
            "image": f"images/{each.source.stem}{picture.suffix}",
            "source": each.name,
            "sha256": each.sha256,
            "width": picture.width,
            "height": picture.height,
            "labels": f"labels/{each.source.stem}.txt",
            "part": each.part,
            "look": picture.look,
        }
        link(each.source if picture.stored is None else work / "prepare" / picture.stored, dataset / entry["image"])
        (dataset / entry["labels"]).write_text(each.lines, encoding="utf-8")
        index.append(entry)
    return index
