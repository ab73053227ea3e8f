"""Which picture a task shows: its digest, and its bytes where the dataset does not have them yet."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from posixpath import basename

from runner.dataset.files import is_picture
from runner.errors import LabelStudioError
from runner.label_studio.annotations import Annotated
from runner.label_studio.shelf import Shelf
from runner.label_studio.union import Finding
from runner.stages.parallel import threads
from runner.workspace import sha256_of
from serving.vision.picture import PictureError, decode

_SHA256 = re.compile("[0-9a-f]{64}")
_UPLOADED = re.compile("^[0-9a-f]{8}-")  # what Label Studio writes before the name of an upload
_SUFFIX = {"MPO": ".jpg", "JPEG": ".jpg", "JPEG2000": ".jp2"}


@dataclass
class Identified:
    """What was annotated, by picture.

    Attributes:
        findings: sha256 → the newest that was drawn.
        skipped: sha256 of pictures that were skipped last.
        tasks: how many tasks show a picture that another, annotated later, shows too.
    """

    findings: dict[str, Finding] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    doubles: int = 0


def identify(annotated: Sequence[Annotated], known: Collection[str], shelf: Shelf, folder: Path) -> Identified:
    """Find out which picture each annotation is about; of several about one picture, the newest counts.

    Args:
        annotated: the newest annotation of each task.
        known: sha256 of pictures whose bytes are here already; no other picture is believed to be what its task says.
        shelf: fetches pictures.
        folder: gets them.
    Raises:
        LabelStudioError: a picture cannot be fetched, is none, or is another than it was when it became a task.
    """
    new = [each for each in annotated if each.boxes is not None and digest_in(each.data) not in known]
    folder.mkdir()
    fetched = dict(
        zip((each.task for each in new), threads(partial(_fetch, shelf, folder), new, "fetching"), strict=True)
    )
    found = Identified()
    for each in sorted(annotated, key=lambda each: (each.time, each.task)):  # the newest last
        picture = fetched.get(each.task)
        sha256 = picture[0] if picture else digest_in(each.data)
        if not sha256:
            continue  # skipped, and never one of the dataset's
        found.doubles += sha256 in found.findings or sha256 in found.skipped
        found.findings.pop(sha256, None)
        found.skipped.discard(sha256)
        if each.boxes is None:
            found.skipped.add(sha256)
            continue
        path, name = picture[1:] if picture else (None, "")
        found.findings[sha256] = Finding(path, name, each.boxes, str(each.data.get("origin") or ""))
    return found


def digest_in(data: dict[str, object]) -> str:
    """Return the digest that a task's data names; empty where it names none."""
    sha256 = data.get("sha256")
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else ""


def _fetch(shelf: Shelf, folder: Path, each: Annotated) -> tuple[str, Path, str]:
    """Return digest, file and name of the picture of a task."""
    image = each.data.get("image")
    if not isinstance(image, str):
        raise LabelStudioError(f"task {each.task}: its data name no image, expected one; delete the task")
    path = folder / str(each.task)
    shelf.fetch(each.task, image, path)
    sha256, expected = sha256_of(path), digest_in(each.data)
    if expected and sha256 != expected:
        raise LabelStudioError(
            f"task {each.task}: its picture {image[:200]} was replaced: its sha256 is {sha256}, but {expected} when it "
            "became a task; put the old one back, or delete the task and import the new one"
        )
    try:
        kind = decode(path.read_bytes(), fit=64).format
    except PictureError as error:
        raise LabelStudioError(f"task {each.task}: its picture {image[:200]}: {error}; delete the task") from error
    return sha256, path, _name(each.data.get("name"), image, kind)


def _name(given: object, image: str, kind: str) -> str:
    """Return the name of a picture's file: the task's, else that of its address, with a suffix that fits."""
    name = given if isinstance(given, str) and given else _UPLOADED.sub("", basename(image))
    return name if is_picture(name) else f"{name}{_SUFFIX.get(kind, f'.{kind.lower()}')}"
