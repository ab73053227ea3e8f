"""Response types of the server, shown on its OpenAPI page."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from serving.storage.detections import Detection, ModelName, Tracked

Verdict = Literal["missed", "wrong", "correct"]
StoppedBy = Literal["seconds", "frames", "detections", "bytes", "time"] | None


class Timings(BaseModel):
    """Times in milliseconds."""

    waiting: float = Field(description="for a free worker")
    decode: float = Field(description="reading the picture")
    inference: float = Field(description="running the model")
    suppression: float = Field(description="removing duplicate boxes")
    total: float = Field(description="from the request's last byte to the answer's first")


class Result(BaseModel):
    """Detections in one picture."""

    width: int = Field(description="of the upright picture, in pixels", examples=[810])
    height: int = Field(examples=[1080])
    detections: list[Detection] = Field(description="the most confident first; empty if there are none")
    counts: dict[str, int] = Field(description="detections of each class", examples=[{"helicopter": 1}])
    timings_ms: Timings


class Answer(Result):
    """The answer to one picture."""

    request_id: str = Field(description="for /feedback", examples=["5b2e0c6e9d0e4f0fa1b7e5a9a3c1d2e4"])
    model: ModelName


class FileResult(BaseModel):
    """One file of a batch: its detections, or its error."""

    request_id: str = Field(description="of this file, for /feedback", examples=["5b2e0c6e9d0e4f0fa1b7e5a9a3c1d2e4-0"])
    filename: str = Field(description="as it was sent", examples=["airfield.jpg"])
    status: int = Field(description="the status that /detect would have: 200, 400, 413, 415 or 503", examples=[200])
    error: str | None = Field(default=None, description="the reason, if the status is not 200")
    found: Result | None = None


class BatchAnswer(BaseModel):
    """One result for each file, in the order of the files."""

    request_id: str
    model: ModelName
    results: list[FileResult]


class Frame(BaseModel):
    """One frame of a video."""

    index: int = Field(description="0 is the first frame", examples=[30])
    time_seconds: float = Field(examples=[1.0])
    detections: list[Tracked]
    counts: dict[str, int]


class VideoResult(BaseModel):
    """Detections in every n-th frame of a video."""

    width: int
    height: int
    every: int = Field(description="n: one frame out of this many is analysed", examples=[10])
    stopped_by: StoppedBy = Field(default=None, description="the limit that was reached before the end of the video")
    frames: list[Frame]


class VideoAnswer(VideoResult):
    """The answer to one video."""

    request_id: str
    model: ModelName
    complete: bool = Field(description="false if a limit was reached before the end of the video")
    most: dict[str, int] = Field(description="for each class, the most detections in one frame")
    tracks: dict[str, int] | None = Field(
        default=None, description="for each class, the number of tracks, where they were asked for"
    )


class VideoJob(BaseModel):
    """A video that is analysed while nobody waits for the answer."""

    id: str = Field(examples=["0d1f6c3b6a3b4c8f9d0e7a6b5c4d3e2f"])
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = Field(
        description="waiting: for other videos; done: its result can be read; failed: `error` is the reason"
    )
    progress: float = Field(ge=0, le=1, description="share of the video that is analysed, 0 to 1", examples=[0.4])
    frames: int = Field(description="frames that were analysed so far", examples=[120])
    created: datetime
    updated: datetime = Field(description="when this was true")
    error: str | None = None


class FeedbackAnswer(BaseModel):
    """The verdict is stored. Thank you!"""

    request_id: str
    verdict: Verdict
    picture: Literal["kept", "needed"] = Field(
        description="needed: this server no longer has the picture and stored nothing; send the same again with `file`"
    )
    kept_as: str | None = Field(
        default=None, description="name of the capture, where it is not request_id: the picture was sent again"
    )
    annotator: str | None = Field(
        default=None, description="whose annotation the boxes are, where the key is an annotator's"
    )


class FeedbackState(BaseModel):
    """What became of a report."""

    request_id: str
    state: Literal["received", "open", "labelled", "skipped", "in_dataset", "in_model"] = Field(
        description="received: it is on its way to the annotators; open: it waits for an annotator; labelled: an "
        "annotator drew it; skipped: an annotator found it useless; in_dataset: the next model learns from it; "
        "in_model: the model that answers here learned from it"
    )
    dataset: str | None = Field(default=None, description="version of the dataset that has it first, its sha256")
    model: ModelName | None = Field(default=None, description="the model that learned from it")


class ServedVariant(BaseModel):
    """The file of the version that this server runs."""

    kind: str = Field(description="float (model.onnx), int8 or fp16", examples=["int8"])
    file: str = Field(examples=["model.int8.onnx"])
    sha256: str = Field(description="digest of the file", examples=["6f2a…"])
    reason: str = Field(description="why this file", examples=["the gate took int8, and this CPU has avx512_vnni"])


class ModelInfo(BaseModel):
    """The loaded model, and the hardware it runs on."""

    model: ModelName
    classes: list[str] = Field(examples=[["airplane", "helicopter"]])
    input_width: int = Field(description="pixels that a picture is scaled to fit into", examples=[640])
    input_height: int = Field(examples=[640])
    thresholds: dict[str, float] = Field(description="default confidence threshold of each class")
    lowest_confidence: float = Field(
        description="the model's file itself drops detections below this (an export with nms=True); 0: it drops none",
        examples=[0],
    )
    device: str = Field(description="CPU or GPU", examples=["CPU"])
    provider: str = Field(description="execution provider of ONNX Runtime", examples=["CPUExecutionProvider"])
    workers: int = Field(description="pictures processed at a time", examples=[2])
    batch: int = Field(description="most pictures in one inference", examples=[1])
    served: ServedVariant
    signature: str = Field(
        description="whether the version's signature is valid, and by which key; what follows is SIGNATURES'",
        examples=["valid, by key 428fb106f9f1"],
    )
    metadata: dict[str, str] = Field(description="metadata that the export wrote into the model")
    manifest: dict[str, Any] | None = Field(
        default=None, description="training, dataset and metrics, if the model was published"
    )


class Error(BaseModel):
    """The reason, and the expected value or the next step."""

    error: str = Field(
        examples=["not a picture of a known kind; expected JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000 or AVIF"]
    )
    request_id: str = Field(examples=["5b2e0c6e9d0e4f0fa1b7e5a9a3c1d2e4"])


class Health(BaseModel):
    """State of the server."""

    status: str = Field(examples=["ready"])
    problem: str | None = Field(default=None, description="why it is not ready, or a new version cannot be loaded")
