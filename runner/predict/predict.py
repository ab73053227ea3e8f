"""`predict`: all pictures of a source, in parts; finished parts stay in `.work/predict/` and are not scored again.

A part is a file of lines `["<picture and version>", row]`, written atomically. Since the folder is named by the source
and all that decides a row, running the command again goes on after a kill, and later scores what is new or changed.
"""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import onnxruntime
from filelock import FileLock, Timeout
from tqdm import tqdm

from runner.dataset.check import listed as as_list
from runner.dataset.names import shown
from runner.errors import StageError
from runner.predict.score_files import check_target, write_scores
from runner.predict.scoring import NEAR, Row, ScoreJob, load_once, score
from runner.predict.source_pictures import SourcePicture, list_pictures
from runner.release.served import load_served, served_source
from runner.stages.parallel import parallel
from runner.workspace import remove_stale, work_folder, write_text
from serving.storage.detections import ModelName
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import Model
from serving.storage.objects import StorageError, read
from serving.vision import variants

PART = 500  # [pictures] that a kill loses at most
_FORMAT = 1


class Scores(NamedTuple):
    """Result of `predict`."""

    source: str
    target: Path | None
    lines: Path  # the rows as JSON Lines, a copy that stays in `.work/`
    model: ModelName
    classes: list[str]  # of the model
    pictures: int
    before: int  # pictures that an earlier run scored
    others: int  # files that are no pictures by their suffix
    counts: Counter[str]  # class → detections
    doubtful: int  # pictures with a margin
    failures: list[str]  # `picture: reason`

    def as_text(self) -> str:
        """Return the counts and failures, to print."""
        classes = ", ".join(f"{count:,} {name}" for name, count in self.counts.most_common()) or "no detections"
        return "\n".join(
            [
                f"{self.pictures:,} picture{'s' * (self.pictures != 1)}"
                + (f" ({self.before:,} scored before)" if self.before else "")
                + f" with {self.model.name} {self.model.version or self.model.sha256[:12]}: {classes}",
                f"{self.doubtful:,} doubtful: a confidence within {NEAR} of its class's threshold",
                *([f"{self.others:,} other files are no pictures by their names"] if self.others else []),
                *as_list("without detections because of an error", self.failures),
                *([str(self.target)] if self.target else []),
            ]
        )


def predict(project: Path, source: str, target: Path | None, model: str | None = None, *, part: int = PART) -> Scores:
    """Detect objects in every picture below a folder or s3://bucket/prefix, or in one file; give each a row (`score`).

    Args:
        source: as above.
        target: the file to write, .parquet, .csv or .jsonl; replaced at the end. None: no file.
        model: as `served_source` takes it.
        part: pictures per part.
    Raises:
        StageError: wrong target, the model cannot be loaded, or another run scores the same pictures.
        StoreError: the store is unreachable; what is scored stays.
    """
    if target:
        check_target(target)
    only = None
    if not source.startswith("s3://"):
        path = (project / Path(source).expanduser()).resolve()
        only = path.name if path.is_file() else None
        source = str(path.parent if only else path)
    address = served_source(project, model)
    address = address._replace(sha256=address.sha256 or _digest(address.uri))
    loaded = load_served(project, address)
    job = ScoreJob(source, address.uri, address.sha256 or "", tuple(variants.int8_instructions()))
    load_once(job)  # before there are threads, which would load it all at once
    pictures, others = list_pictures(source, only)
    folder = work_folder(project) / "predict" / _inputs(source, loaded)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock").acquire(timeout=0):
            remove_stale(folder)
            before, unread = _score_all(folder, job, pictures, part)
            names, lines = {_name(each) for each in pictures}, folder / "all.jsonl"
            failures, doubtful, counts = list[str](), 0, Counter[str]()
            with lines.open("w", encoding="utf-8") as file:
                for row in chain((row for name, row in _rows(folder) if name in names), unread):
                    file.write(f"{json.dumps(row, ensure_ascii=False)}\n")
                    counts.update(each["label"] for each in row["detections"])
                    doubtful += row["margin"] is not None
                    if row["error"]:
                        failures.append(f"{shown(row['picture'])}: {row['error']}")
            if target:
                write_scores(lines, target)
    except Timeout as error:
        raise StageError(f"another `predict` scores {source} with this model now; wait until it ends") from error
    names_of = loaded.name, loaded.detector.classes
    return Scores(source, target, lines, *names_of, len(pictures), before, others, counts, doubtful, failures)


def _score_all(folder: Path, job: ScoreJob, pictures: list[SourcePicture], part: int) -> tuple[int, list[Row]]:
    """Score the pictures that no part has, and write further parts.

    Return how many were there, and the rows of those that could not be read, which the next run tries again.
    """
    done = {name for name, _ in _rows(folder)}
    waiting = [each for each in pictures if _name(each) not in done]
    total, before, unread = len(pictures), len(pictures) - len(waiting), list[Row]()
    number = max((int(file.stem) for file in folder.glob("*.part")), default=0)
    with tqdm(total=total, initial=before, desc="pictures", disable=None) as bar:
        for start in range(0, len(waiting), part):
            batch, lines = waiting[start : start + part], list[str]()
            for picture, row in zip(batch, parallel(partial(score, job), batch), strict=True):
                if row["sha256"]:
                    lines.append(f"{json.dumps([_name(picture), row], ensure_ascii=False)}\n")
                else:
                    unread.append(row)
                bar.update()
            number += 1
            write_text(folder / f"{number:06}.part", "".join(lines))
            if bar.disable:  # a log instead of a terminal
                print(f"{before + start + len(batch):,} of {total:,} pictures", file=sys.stderr, flush=True)
    return before, unread


def _rows(folder: Path) -> Iterator[tuple[str, Row]]:
    for file in sorted(folder.glob("*.part")):
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _name(picture: SourcePicture) -> str:
    """Return what names a picture and its content in the parts."""
    return hashlib.blake2b(
        os.fsencode("\0".join([picture.key, str(picture.size), picture.version])), digest_size=16
    ).hexdigest()


def _inputs(source: str, model: Model) -> str:
    """Return a digest of all that decides the rows but the pictures: the detector's code too."""
    digest = hashlib.sha256(repr((_FORMAT, NEAR, source, onnxruntime.__version__, model.served.sha256)).encode())
    digest.update(repr(tuple(model.thresholds)).encode())
    for file in sorted(Path(variants.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _digest(uri: str) -> str:
    try:
        return hashlib.sha256(read(uri, endpoint_of_environment())).hexdigest()
    except StorageError as error:
        raise StageError(str(error)) from error
