"""`predict --draw`: a copy of each picture with its boxes, as JPEG."""

import json
import sys
from pathlib import Path, PurePosixPath

from PIL import Image
from tqdm import tqdm

from runner.dataset.check import listed
from runner.dataset.names import shown
from runner.dataset.sheet import colour_of
from runner.errors import StageError
from runner.predict.predict import Scores
from runner.predict.scoring import Row
from runner.predict.source_pictures import reread
from runner.workspace import writing
from serving.vision.marks import Mark, draw_marks, short
from serving.vision.picture import decode

_QUALITY = 90


def check_folder(source: str, folder: Path) -> None:
    """Raise StageError where the drawn pictures would lie among those of the source, which a later run would score."""
    place = Path(source).resolve()
    if not source.startswith("s3://") and folder.resolve().is_relative_to(place if place.is_dir() else place.parent):
        raise StageError(f"--draw {folder}: lies in the folder of the pictures, expected a folder elsewhere")


def draw_pictures(scores: Scores, folder: Path) -> str:
    """Write each picture that was scored with its boxes below a folder, under its own path; return the count.

    What is no .jpg gets this suffix too. Pictures that are gone or changed since they were scored are listed.
    """
    gone, drawn = list[str](), 0
    with scores.lines.open(encoding="utf-8") as lines:
        rows = (row for row in map(json.loads, lines) if not row["error"])
        for row in tqdm(rows, desc="drawn", disable=None):
            if (data := reread(scores.source, row)) is None:
                gone.append(shown(row["picture"]))
                continue
            with writing(file_of(folder, row["picture"]), durable=False) as temporary:
                _draw(data, row, scores.classes).save(temporary, "JPEG", quality=_QUALITY)
            drawn += 1
    return "\n".join(
        [f"{drawn:,} picture{'s' * (drawn != 1)} drawn in {folder}", *listed("gone or changed since", gone)]
    )


def file_of(folder: Path, address: str) -> Path:
    """Return the file of a drawn picture; an object's key may be any text, but leads out of the folder nowhere."""
    parts = address.split("/")[3:] if address.startswith("s3://") else address.split("/")
    path = PurePosixPath(*(part for part in parts if part not in ("", ".", "..")))
    return folder / (path if path.suffix.lower() in (".jpg", ".jpeg") else path.with_name(f"{path.name}.jpg"))


def _draw(data: bytes, row: Row, classes: list[str]) -> Image.Image:
    marks = [
        Mark(
            [each["box"][side] for side in ("x1", "y1", "x2", "y2")],
            f"{short(each['label'])} {each['confidence']:.2f}",
            colour_of(classes.index(each["label"])),
        )
        for each in row["detections"]
    ]
    return draw_marks(decode(data, max_pixels=sys.maxsize).image, marks)
