"""Check every picture and label, bring all to one form, and say what was left out.

A prepared picture follows from the bytes of its source and a few settings, so it is kept in `.work/` under their digest:
after a kill, or when pictures were added, only what is new is decoded again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from runner.config import Prepare
from runner.errors import DatasetError
from runner.files import link, sha256_of, write_text, writing
from runner.labels import Labels, format_labels, parse_labels, turn_boxes
from runner.parallel import parallel, threads
from runner.report import write_report
from serving.picture import PictureError, decode

RECIPE = 1  # counted up when the same picture and settings come out otherwise
LOSSLESS = ("PNG", "GIF", "BMP", "TIFF")  # written anew as PNG; the others as JPEG
PARTS = ("train", "val", "test")


@dataclass
class Found:
    """What `prepare` met: counts, and every thing that was left out or changed, with its reason."""

    pictures: int = 0
    label_lines: int = 0
    left_out: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rejected_pictures: int = 0
    rejected_lines: int = 0

    def leave_out(self, file: str, reason: str) -> None:
        """Note a file, or a line of one, that is not in the dataset."""
        self.left_out.append({"file": file, "reason": reason})


def prepare(raw: Path, classes: list[str], settings: Prepare, dataset: Path, report: Path, *, work: Path) -> str:
    """Fill `dataset` with checked pictures and labels, and `report` with what was found.

    Args:
        raw: classes.txt, images/, labels/; with parts of its own also train.txt, val.txt, test.txt.
        classes: the class names in id order; empty takes those of `raw`. Ids are matched by name.
        settings: sizes, quality and the limits of the data gate.
        dataset: an empty folder; gets images/, labels/, classes.txt and index.json, a list of
            {image, source, sha256, width, height, labels, part}: width and height in pixels of the source as a
            person sees it, image and labels relative to `dataset`, source relative to `raw`.
        report: an empty folder; gets report.json, index.html and the contact sheet.
        work: where prepared pictures outlive a kill.
    Returns:
        A line that says how much was found and kept.
    Raises:
        DatasetError: the classes do not fit, two equal pictures carry different labels, or the data gate is not
            passed; then the report is left in `work`/report.
    """
    own_classes = (raw / "classes.txt").read_text(encoding="utf-8").splitlines()
    class_ids = _match_classes(own_classes, classes)
    names = classes or own_classes
    found = Found()

    sources = sorted((raw / "images").iterdir())
    found.pictures = len(sources)
    digests = dict(zip(sources, threads(sha256_of, sources, "reading"), strict=True))
    kept = _prepared(sources, digests, settings, work / "prepare", found)
    labels = {path: _read_labels(raw, path, kept[path], class_ids, settings, found) for path in kept}
    for orphan in sorted({p.stem for p in (raw / "labels").glob("*.txt")} - {p.stem for p in sources}):
        found.leave_out(f"labels/{orphan}.txt", "no picture of this name; expected one in images/")
    parts = _parts(raw)
    unique = _without_duplicates(kept, digests, labels, parts, found)

    (dataset / "images").mkdir()
    (dataset / "labels").mkdir()
    index = []
    for path in unique:
        record = kept[path]
        image = f"images/{path.stem}{record['suffix']}"
        link(path if record["stored"] is None else work / "prepare" / record["stored"], dataset / image)
        text = format_labels(labels[path].class_ids, labels[path].boxes_xywhn)
        (dataset / f"labels/{path.stem}.txt").write_text(text, encoding="utf-8")
        index.append(
            {
                "image": image,
                "source": f"images/{path.name}",
                "sha256": digests[path],
                "width": record["width"],
                "height": record["height"],
                "labels": f"labels/{path.stem}.txt",
                "part": parts.get(f"images/{path.name}"),
            }
        )
    write_text(dataset / "classes.txt", "".join(f"{name}\n" for name in names))
    write_text(dataset / "index.json", json.dumps(index, indent=1, ensure_ascii=False) + "\n")

    boxes = {path.stem: labels[path] for path in unique}
    summary = _summary(found, names, boxes)
    write_report(report, summary, dataset, index, boxes, names)
    if refusals := _gate(found, summary, settings):
        kept_report = work / "report"
        shutil.rmtree(kept_report, ignore_errors=True)
        shutil.copytree(report, kept_report)
        raise DatasetError(
            "the dataset does not pass the data gate:\n  "
            + "\n  ".join(refusals)
            + f"\nevery reason stands in {kept_report / 'index.html'}; mend the dataset, or change the limits in params.yaml"
        )
    return (
        f"{len(unique)} of {found.pictures} pictures, {sum(summary['boxes'].values())} boxes; {len(found.left_out)} things "
        f"left out, {len(found.notes)} repaired (see artifacts/report/index.html)"
    )


def _match_classes(own: list[str], configured: list[str]) -> list[int]:
    """Return for each of the dataset's class ids the id that it gets."""
    if not configured:
        return list(range(len(own)))
    if missing := [name for name in own if name not in configured]:
        raise DatasetError(
            f"classes.txt lists {', '.join(missing)}, which dataset.classes ({', '.join(configured)}) does not; "
            "add them there, or leave dataset.classes empty"
        )
    return [configured.index(name) for name in own]


def _prepared(
    sources: list[Path], digests: dict[Path, str], settings: Prepare, work: Path, found: Found
) -> dict[Path, dict[str, Any]]:
    """Return what is known of each readable picture, decoding only those that were never seen with these settings."""
    deciding = settings.model_dump(include={"max_width", "jpeg_quality", "max_pixels"})
    recipe = {"recipe": RECIPE, "pillow": PIL.__version__, **deciding}
    folder = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    (work / folder).mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(work / folder / "known.sqlite", timeout=600) as known:
        known.execute("CREATE TABLE IF NOT EXISTS pictures (sha256 TEXT PRIMARY KEY, record TEXT)")
        records: dict[str, dict[str, Any]] = {
            sha256: record
            for sha256, text in known.execute("SELECT sha256, record FROM pictures")
            if (record := json.loads(text))["stored"] is None or (work / record["stored"]).is_file()
        }
        new = sorted({digests[path]: path for path in sources if digests[path] not in records}.items())
        task = partial(prepare_picture, settings=settings, work=work, folder=folder)
        done = tqdm(parallel(task, [path for _, path in new]), total=len(new), desc="preparing", disable=None)
        for count, ((sha256, _), record) in enumerate(zip(new, done, strict=True), 1):
            records[sha256] = record
            if "error" not in record:
                known.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?)", (sha256, json.dumps(record)))
            if count % 100 == 0:
                known.commit()
    known.close()
    kept = {}
    for path in sources:
        record = records[digests[path]]
        if "error" in record:
            found.rejected_pictures += 1
            found.leave_out(f"images/{path.name}", record["error"])
        else:
            kept[path] = record
    return kept


def prepare_picture(path: Path, *, settings: Prepare, work: Path, folder: str) -> dict[str, Any]:
    """Decode one picture; write it anew unless it can be linked as it is.

    Returns:
        width, height (pixels, as seen), turn (EXIF 1-8), suffix of the prepared file, and stored: its place in `work`,
        or None when the source serves unchanged. Or error: why the picture cannot be used.
    """
    data = path.read_bytes()
    try:
        picture = decode(data, fit_width=settings.max_width, max_pixels=settings.max_pixels)
    except PictureError as error:
        return {"error": str(error)}
    record = {"width": picture.width, "height": picture.height, "turn": picture.turn}
    shrink = settings.max_width is not None and picture.width > settings.max_width
    if picture.plain and not shrink:
        return record | {"stored": None, "suffix": ".jpg" if picture.format == "JPEG" else ".png"}
    image = picture.image
    if shrink:
        assert settings.max_width is not None
        height = max(1, round(picture.height * settings.max_width / picture.width))
        image = image.resize((settings.max_width, height), Image.Resampling.BOX)
    suffix = ".png" if picture.format in LOSSLESS else ".jpg"
    stored = f"{folder}/{hashlib.sha256(data).hexdigest()}{suffix}"
    with writing(work / stored) as temporary:
        if suffix == ".png":
            image.save(temporary, "PNG", compress_level=1)
        else:
            image.save(temporary, "JPEG", quality=settings.jpeg_quality)
    return record | {"stored": stored, "suffix": suffix}


def _read_labels(
    raw: Path, picture: Path, record: dict[str, Any], class_ids: list[int], settings: Prepare, found: Found
) -> Labels:
    """Read a picture's labels, with the ids of the class list and turned as the picture was."""
    file = raw / "labels" / f"{picture.stem}.txt"
    text = file.read_bytes() if file.is_file() else b""
    labels = parse_labels(text, where=f"labels/{file.name}", classes=len(class_ids))
    for problem in labels.problems:
        where, _, reason = problem.partition(": ")
        found.leave_out(where, reason)
    found.notes += labels.notes
    found.label_lines += len(labels.class_ids) + len(labels.problems)
    found.rejected_lines += len(labels.problems)
    turn = record["turn"] if settings.exif_boxes == "stored" else 1
    return Labels(
        np.array([class_ids[number] for number in labels.class_ids], dtype=np.int64),
        turn_boxes(labels.boxes_xywhn, turn),
        labels.problems,
        labels.notes,
    )


def _parts(raw: Path) -> dict[str, str]:
    """Return the part that the dataset itself gives each `images/<name>`; empty when it came without."""
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
    found: Found,
) -> list[Path]:
    """Keep one of equal pictures: that of the test part before val before train, then the first by name.

    Raises:
        DatasetError: equal pictures carry different labels, so one of them is wrong.
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
            found.leave_out(f"images/{path.name}", f"the same bytes and labels as images/{twin.name}, which is kept")
        else:
            conflicts.append(f"images/{twin.name} and images/{path.name}")
    if conflicts:
        raise DatasetError(
            "the same picture carries different labels; keep the right one of each pair:\n  " + "\n  ".join(conflicts)
        )
    return sorted(first.values())


def _sorted_lines(labels: Labels) -> list[str]:
    return sorted(format_labels(labels.class_ids, labels.boxes_xywhn).splitlines())


def _summary(found: Found, names: list[str], boxes: dict[str, Labels]) -> dict[str, Any]:
    """Return what report.json holds."""
    per_class = Counter(names[number] for labels in boxes.values() for number in labels.class_ids)
    return {
        "pictures": {
            "found": found.pictures,
            "kept": len(boxes),
            "background": sum(not len(labels.class_ids) for labels in boxes.values()),
            "unusable": found.rejected_pictures,
        },
        "labels": {"found": found.label_lines, "unusable": found.rejected_lines},
        "boxes": {name: per_class[name] for name in names},
        "left_out": found.left_out,
        "notes": found.notes,
    }


def _gate(found: Found, summary: dict[str, Any], settings: Prepare) -> list[str]:
    """Return why the dataset may not be trained on; empty when it may."""
    refusals = []
    if (kept := summary["pictures"]["kept"]) < settings.min_pictures:
        refusals.append(f"{kept} pictures are left, expected at least prepare.min_pictures = {settings.min_pictures}")
    for what, folder, rejected, total in (
        ("pictures", "images/", found.rejected_pictures, found.pictures),
        ("label lines", "labels/", found.rejected_lines, found.label_lines),
    ):
        if rejected > settings.max_rejected * total:
            first = next(item for item in found.left_out if item["file"].startswith(folder))
            refusals.append(
                f"{rejected} of {total} {what} cannot be used, expected at most prepare.max_rejected = "
                f"{settings.max_rejected:g} of them; the first: {first['file']}: {first['reason']}"
            )
    for name, count in summary["boxes"].items():
        if count < settings.min_per_class:
            refusals.append(f"{count} boxes of {name}, expected at least prepare.min_per_class = {settings.min_per_class}")
    return refusals
