"""Identity of a task's picture: its digest, and its bytes when the dataset lacks them."""

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
_UPLOADED = re.compile("^[0-9a-f]{8}-")  # Label Studio's prefix of an upload's name
_SUFFIX = {"MPO": ".jpg", "JPEG": ".jpg", "JPEG2000": ".jp2"}


@dataclass
class Identified:
    """Annotations by picture.

    Attributes:
        findings: sha256 → the newest annotation.
        skipped: sha256 of pictures whose newest annotation is a skip.
        tasks: number of tasks whose picture another task, annotated later, shows too.
    """

    findings: dict[str, Finding] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    doubles: int = 0


def identify(annotated: Sequence[Annotated], known: Collection[str], shelf: Shelf, folder: Path) -> Identified:
    """Find the picture of each annotation; of several for one picture, the newest counts.

    Args:
        annotated: the newest annotation of each task.
        known: sha256 of pictures whose bytes are here. Others are fetched, and their digests computed.
    Raises:
        LabelStudioError: a picture cannot be fetched, is none, or changed since it became a task.
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
            continue  # skipped, and not in the dataset
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
    """Return the digest in a task's data; empty when there is none."""
    sha256 = data.get("sha256")
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else ""


def _fetch(shelf: Shelf, folder: Path, each: Annotated) -> tuple[str, Path, str]:
    """Fetch the picture of a task; return its digest, file and name."""
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
    """Return a picture's file name: the task's, else from its address, with the suffix of its format."""
    name = given if isinstance(given, str) and given else _UPLOADED.sub("", basename(image))
    return name if is_picture(name) else f"{name}{_SUFFIX.get(kind, f'.{kind.lower()}')}"
