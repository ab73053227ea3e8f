from datetime import UTC, datetime
from itertools import count
from typing import Any

from serving.captures.writer import CaptureWriter
from serving.decoding.pool import Decoding
from serving.inference.prediction import Prediction
from serving.monitoring import Metrics
from serving.responses import Result, Timings
from serving.settings import Settings
from serving.storage.detections import Box, Detection, ModelName
from tests.support.pictures import encoded, gradient

MODEL = ModelName(name="planes", version="3", sha256="ab" * 32)
CHALLENGER = ModelName(name="planes", version="4", sha256="cd" * 32)
_NUMBERS = count()


def keep_capture(
    uri: str,
    *confidences: float,
    data: bytes | None = None,
    size: tuple[int, int] = (40, 30),
    label: str = "airplane",
    almost: int = 0,
    feedback: dict[str, Any] | None = None,
    challenger: list[float] | None = None,
    time: datetime | None = None,
    model: ModelName = MODEL,
    request_id: str | None = None,
) -> str:
    """Write a capture, with feedback if given, to CAPTURE_URI; return its request id: later ones sort behind it.

    There is a detection for each of the confidences, the last `almost` of them below their threshold; each box is from
    a quarter to half of the picture, both ways. The request id of an earlier capture writes that again. `challenger`:
    a model of version 4 disagrees; it alone found the boxes of these confidences, and the model alone its own.
    """
    request_id = request_id or f"{next(_NUMBERS):032x}"
    time = time or datetime.now(UTC)
    width, height = size
    box = Box(x1=width / 4, y1=height / 4, x2=width / 2, y2=height / 2)
    found = [Detection(label=label, class_id=0, confidence=confidence, box=box) for confidence in confidences]
    shown, below = found[: len(found) - almost], found[len(found) - almost :]
    timings = Timings(waiting=0, decode=0, inference=0, suppression=0, total=0)
    result = Result(width=width, height=height, detections=shown, counts={}, timings_ms=timings)
    data = data or encoded(gradient(*size))
    settings, metrics = Settings(capture_uri=uri, environment="dev"), Metrics()
    writer = CaptureWriter(settings, metrics, Decoding(settings, metrics))
    prediction = Prediction(request_id, data, model, result, below, {label: 0.3}, time)
    disagreement = None
    if challenger is not None:
        theirs = [Detection(label=label, class_id=0, confidence=score, box=box).model_dump() for score in challenger]
        disagreement = {"challenger": CHALLENGER.model_dump(), "detections": theirs, "only_challenger": theirs}
        disagreement["only_model"] = [each.model_dump() for each in shown]
    writer.keep(prediction, ["below:0.5" if found else "nothing_found"], disagreement)
    if feedback is not None:
        writer.keep_feedback(prediction, {"time": time.isoformat(), **feedback})
    return request_id
