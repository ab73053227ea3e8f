"""Response types of the server, shown on its OpenAPI page."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from serving.storage.detections import Detection, ModelName


class Timings(BaseModel):
    """Where the time went, in milliseconds."""

    waiting: float = Field(description="for a free worker")
    decode: float = Field(description="reading the picture")
    inference: float = Field(description="running the model")
    suppression: float = Field(description="removing doubles")
    total: float = Field(description="from the request's last byte to the answer's first")


class Found(BaseModel):
    """What was found in one picture."""

    width: int = Field(description="of the picture as a person sees it, in pixels", examples=[810])
    height: int = Field(examples=[1080])
    detections: list[Detection] = Field(description="the most confident first; empty if nothing was found")
    counts: dict[str, int] = Field(description="how many of each class", examples=[{"helicopter": 1}])
    timings_ms: Timings


class Answer(Found):
    """The answer to one picture."""

    request_id: str = Field(description="name it in /feedback", examples=["5b2e0c6e9d0e4f0fa1b7e5a9a3c1d2e4"])
    model: ModelName


class FileResult(BaseModel):
    """One file of a batch: what was found, or why it could not be read."""

    request_id: str = Field(
        description="of this file; name it in /feedback", examples=["5b2e0c6e9d0e4f0fa1b7e5a9a3c1d2e4-0"]
    )
    filename: str = Field(description="as it was sent", examples=["airfield.jpg"])
    status: int = Field(description="what /detect would have answered: 200, 400, 413 or 415", examples=[200])
    error: str | None = Field(default=None, description="why, if the status is not 200")
    found: Found | None = None


class BatchAnswer(BaseModel):
    """One result for each file, in the order in which they were sent."""

    request_id: str
    model: ModelName
    results: list[FileResult]


class Frame(BaseModel):
    """One frame of a video."""

    index: int = Field(description="0 is the first frame", examples=[30])
    time_seconds: float = Field(examples=[1.0])
    detections: list[Detection]
    counts: dict[str, int]


class VideoAnswer(BaseModel):
    """What was found in the frames that were looked at."""

    request_id: str
    model: ModelName
    width: int
    height: int
    every: int = Field(description="each how many frames one was looked at", examples=[10])
    complete: bool = Field(description="false if a limit ended the work before the video did")
    stopped_by: Literal["seconds", "frames", "time"] | None = Field(default=None, description="which limit that was")
    most: dict[str, int] = Field(description="for each class, the most in any one frame")
    frames: list[Frame]


class FeedbackAnswer(BaseModel):
    """Thank you: the verdict is kept."""

    request_id: str
    verdict: Literal["missed", "wrong", "correct"]
    picture: Literal["kept", "needed"] = Field(
        description="needed: this server no longer has the picture; send the same again with `file`"
    )


class ModelInfo(BaseModel):
    """The model that answers here, and what runs it."""

    model: ModelName
    classes: list[str] = Field(examples=[["airplane", "helicopter"]])
    input_width: int = Field(description="pixels that a picture is scaled to fit into", examples=[640])
    input_height: int = Field(examples=[640])
    thresholds: dict[str, float] = Field(description="confidence that each class must exceed, if a request names none")
    device: str = Field(description="what the model runs on", examples=["CPU"])
    provider: str = Field(description="ONNX Runtime's name for it", examples=["CPUExecutionProvider"])
    workers: int = Field(description="pictures worked on at a time", examples=[2])
    batch: int = Field(description="pictures in one inference at most", examples=[1])
    metadata: dict[str, str] = Field(description="what the export wrote into the model")
    manifest: dict[str, Any] | None = Field(
        default=None, description="how it was trained and measured, where it was published"
    )


class Error(BaseModel):
    """What was wrong, what was expected, and what to do."""

    error: str = Field(
        examples=["not a picture of a known kind; expected JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000 or AVIF"]
    )
    request_id: str = Field(examples=["5b2e0c6e9d0e4f0fa1b7e5a9a3c1d2e4"])


class Health(BaseModel):
    """Whether the server is well."""

    status: str = Field(examples=["ready"])
    problem: str | None = Field(default=None, description="what it waits for, where it is not ready")
