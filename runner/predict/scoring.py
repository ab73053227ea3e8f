"""One picture's detections, as the model server finds them; runs in threads, processes, or on Dask's workers.

A worker reads the pictures and the model itself, with the store's keys of its own environment.
"""

import hashlib
from functools import lru_cache
from typing import Any, NamedTuple

from runner.errors import ObjectError, StageError
from runner.predict.source_pictures import SourcePicture, address_of_picture, read_picture
from serving.storage.detections import named
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import LoadingError, Model, load_model
from serving.vision.detector import Options
from serving.vision.picture import PictureError

NEAR = 0.1  # a confidence this close to its class's threshold, above or below, makes a picture doubtful
Row = dict[str, Any]


class ScoreJob(NamedTuple):
    """The source and the model; small, since it is sent with each picture."""

    source: str  # s3://bucket/prefix, or an absolute path
    model_uri: str
    model_sha256: str  # of the file at model_uri, in hex
    instructions: tuple[str, ...]  # by which one machine chose the version's file: all workers run the same one


def score(job: ScoreJob, picture: SourcePicture) -> Row:
    """Return a picture's row; one that cannot be read has an `error`, and no detections.

    picture      its address
    sha256       of its bytes, in hex; empty: they could not be read
    width        [pixels] of the upright picture, as height
    detections   as the server's answer has them: label, class_id, confidence, box in pixels
    almost       detections at most NEAR below the threshold of their class
    margin       distance from a confidence to its threshold, the smallest; None: none within NEAR
    error        reason why there are no detections; None: there is none

    StoreError: the store is unreachable, or refuses.
    """
    row: Row = {"picture": address_of_picture(job.source, picture.key), "sha256": "", "width": None, "height": None}
    row |= {"detections": [], "almost": [], "margin": None, "error": None}
    model = load_once(job)
    lowered = [max(0.0, threshold - NEAR) for threshold in model.thresholds]
    try:
        data = read_picture(job.source, picture.key)
        row["sha256"] = hashlib.sha256(data).hexdigest()
        found = model.detector.detect(data, Options(confidence=lowered))
    except (ObjectError, PictureError) as error:
        return row | {"error": str(error)}
    row |= {"width": found.width, "height": found.height}
    margins: list[float] = []
    for detection, confidence in zip(named(found, model.detector.classes), found.confidences.tolist(), strict=True):
        over = confidence - model.thresholds[detection.class_id]
        row["detections" if over > 0 else "almost"].append(detection.model_dump())
        margins.append(round(abs(over), 4))
    margin = min(margins, default=1.0)
    return row | {"margin": margin if margin <= NEAR else None}


@lru_cache(maxsize=1)
def load_once(job: ScoreJob) -> Model:
    """Load the model, once in each process; its signature was checked by the command."""
    try:
        return load_model(
            job.model_uri, endpoint_of_environment(), sha256=job.model_sha256, instructions=job.instructions
        )
    except LoadingError as error:
        raise StageError(str(error)) from error
