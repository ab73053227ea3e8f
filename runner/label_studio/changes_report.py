"""What a person judges new labels by: text and picture of their pull request.

The text has the counts of each class, where the pictures come from, and the labels that the deployed model contradicts;
the picture is the contact sheet of `dataset diff`. What comes from tasks is untrusted: captures carry words of
strangers.
"""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runner.config.schema import Config
from runner.dataset.check import listed
from runner.dataset.diff import OpenedVersion, compare, draw_changes
from runner.dataset.index import Index, PictureRow
from runner.dataset.labels import parse_labels
from runner.errors import RunnerError
from runner.label_studio.annotations import Annotation
from runner.label_studio.merge import MergedDataset
from runner.release.deployed import NotDeployedError, load_deployed
from runner.release.pin import DEV
from runner.stages.evaluate.examples import Example, detect
from runner.stages.evaluate.metrics import Boxes
from runner.store import Store
from runner.suspects.find_suspects import JudgedPicture, Judgement
from runner.suspects.ranking import LEAST_SUSPICION, rank_suspects, score_suspects
from runner.suspects.suspect_files import describe, suspects_table
from runner.tables import Row, Table
from runner.workspace import work_folder

SUSPECTS = 12  # rows of their table
QUALITY = 85  # of the sheet's JPEG
_CAPTURED = ("origin", "environment", "model", "reason", "verdict", "request_id")  # of a task


def changes_table(before: Index, after: Index) -> Table:
    """Return the numbers of pictures and of boxes of each class: before, by kind of change, and after."""
    changes = compare(before, after)
    relabelled = {row.sha256 for row in changes.relabelled}
    change = _counts(changes.relabelled, after.classes)
    change.subtract(_counts([row for row in before.rows if row.sha256 in relabelled], before.classes))
    old, new = _counts(before.rows, before.classes), _counts(after.rows, after.classes)
    added, removed = _counts(changes.added, after.classes), _counts(changes.removed, before.classes)
    head = ("", "before", "added", "relabelled", "removed", "after")
    pictures = (len(before.rows), len(changes.added), len(relabelled), len(changes.removed), len(after.rows))
    rows: list[Row] = [head, ("pictures", *map(str, pictures))]
    for name in ("", *dict.fromkeys(after.classes + before.classes)):
        signed = (f"{count:+d}" if count else "" for count in (added[name], change[name], -removed[name]))
        title = f"boxes of {name}" if name else "without a box"
        rows.append((title, str(old[name]), *signed, str(new[name])))
    return Table("", rows)


def origins_text(merged: MergedDataset, newest: Mapping[str, Annotation]) -> str:
    """Return, as Markdown, how many changed pictures have which origin, and the captures among them."""
    sha256_of_name = {row.name: row.sha256 for row in merged.index.rows}
    counts = {"added": Counter[str](), "relabelled": Counter[str]()}
    captured = []
    for change, names in (("added", merged.added), ("relabelled", merged.relabelled)):
        for name in names:
            annotation = newest[sha256_of_name[name]]
            counts[change][annotation.origin or "drawn or uploaded in Label Studio"] += 1
            if annotation.origin in ("capture", "feedback"):
                told = (_code(annotation.data.get(key)) for key in _CAPTURED)
                captured.append(f"{name}: {' '.join(filter(None, told))}")
    rows: list[Row] = [("origin", *counts)]
    for origin in sorted(set().union(*counts.values())):
        rows.append((_plain(origin), *(str(count[origin]) for count in counts.values())))
    text = Table("Where they come from", rows).as_text(markdown=True)
    if captured:
        head, *lines = listed("captured", sorted(captured))
        text += f"\n\n{head.capitalize()}\n\n" + "\n".join(f"- {line.strip()}" for line in lines)
    return text


def suspects_text(project: Path, config: Config, merged: MergedDataset) -> str:
    """Return, as Markdown, the labels of added pictures that dev's model contradicts; else why none is named.

    Pictures that were relabelled are not judged: the model was trained on their former labels. Nor are boxes of classes
    that it does not know.
    """
    title = "### Labels that the deployed model contradicts\n\n"
    rows = [row for row in merged.index.rows if row.sha256 in merged.files and row.width and row.height]
    if not rows:
        return ""
    try:
        deployed = load_deployed(project, DEV, work_folder(project))
    except (NotDeployedError, RunnerError) as error:
        return f"{title}Not examined: {_plain(str(error))}"
    names, known = merged.index.classes, deployed.detector.classes
    name = f"{deployed.version.model} {deployed.version.number}"
    if unknown := set(known) - set(names):
        return f"{title}Not examined: {name} knows {', '.join(sorted(unknown))}, which the dataset does not"
    ids = np.array([names.index(each) for each in known], np.int64)
    pictures = [_judged(row, merged.files[row.sha256], len(names), ids) for row in rows]
    examples = [picture.example for picture in pictures]
    found = [each.everything for each in detect(deployed.detector, ids, examples, config.evaluate)]
    suspects = rank_suspects(score_suspects([each.labelled for each in examples], found, len(names)))
    judgement = Judgement(names, deployed.version.manifest.onnx_sha256, 0, pictures, suspects)
    strong = [describe(judgement, each) for each in suspects if each.suspicion >= LEAST_SUSPICION]
    said = f"{title}{name} was asked about the {len(rows)} added pictures: {len(strong)} contradictions"
    if not strong:
        return said
    table = suspects_table("", strong[:SUSPECTS]).as_text(markdown=True)
    more = f", of which the first {SUSPECTS}" if len(strong) > SUSPECTS else ""
    return f"{said}{more}. A contradiction is a question, not a verdict.\n\n{table}"


def draw_sheet(before: OpenedVersion, after: OpenedVersion, store: Store, project: Path) -> bytes:
    """Return the contact sheet of the changed pictures, old boxes beside new ones, as a JPEG."""
    sheet = draw_changes([before, after], compare(before.index, after.index), store, work_folder(project))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _counts(rows: Sequence[PictureRow], classes: Sequence[str]) -> Counter[str]:
    """Return the number of boxes of each class, and of pictures without one under the empty name."""
    boxes = Counter(classes[int(line.partition(" ")[0])] for row in rows for line in row.labels.splitlines())
    return boxes + Counter({"": sum(not row.labels for row in rows)})


def _judged(row: PictureRow, file: Path, classes: int, known: np.ndarray) -> JudgedPicture:  # type: ignore[type-arg]
    """Return a picture with its boxes of classes that the model knows."""
    size = (row.width or 0, row.height or 0)
    labels = parse_labels(row.labels.encode(), where=row.name, classes=classes)
    kept = np.isin(labels.class_ids, known)
    x, y, w, h = (labels.boxes_xywhn[kept] * (2 * size)).T
    xyxy_px = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1).astype(np.float64)
    boxes = Boxes(xyxy_px, labels.class_ids[kept].astype(np.int64), np.ones(int(kept.sum())))
    return JudgedPicture(Example(row.name, row.name, file, size[0] * size[1], boxes), "new", row.sha256, size)


def _plain(text: str) -> str:
    """Return a text without what Markdown or a forge would act on: a mention, a link, a picture, HTML."""
    return re.sub(r"[^\w .,:;()/+-]", " ", text)[:200]


def _code(value: object) -> str:
    return f"`{_plain(str(value))}`" if value else ""
