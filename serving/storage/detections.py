"""Types of detections and of the model's name, shared by answers and captures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from serving.vision.detector import Detections

_Pixels = Annotated[
    float,
    Field(allow_inf_nan=False, description="pixels of the picture as a person sees it, from its top left corner"),
]


class ModelName(BaseModel):
    """Which model answered; also in the headers X-Model-Name, -Version, -SHA256 and -Commit."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(examples=["flyingthings"])
    version: str | None = Field(default=None, description="counts up with each training run", examples=["3"])
    sha256: str = Field(description="digest of the weights (model.onnx)", examples=["6f2a…"])
    commit: str | None = Field(default=None, description="Git commit that it was trained from", examples=["9c1f2ab"])

    @property
    def title(self) -> str:
        """Name and version, as people read them."""
        return f"{self.name} {self.version or self.sha256[:12]}"


class Box(BaseModel):
    """Two corners: (x1, y1) is the upper left one, (x2, y2) the lower right one."""

    x1: _Pixels = Field(examples=[120.5])
    y1: _Pixels = Field(examples=[40.0])
    x2: _Pixels = Field(examples=[380.1])
    y2: _Pixels = Field(examples=[210.7])


class Detection(BaseModel):
    """One thing that was found."""

    label: str = Field(description="name of its class", examples=["helicopter"])
    class_id: int = Field(description="number of its class in /model", examples=[1])
    confidence: float = Field(ge=0, le=1, description="how sure the model is, 0 to 1", examples=[0.91])
    box: Box


class Tracked(Detection):
    """One thing that was found in a frame of a video."""

    track: int | None = Field(default=None, description="its number in all frames, where tracks were asked for")


class RightBox(BaseModel):
    """A box as it should have been."""

    label: str = Field(min_length=1, max_length=200, examples=["helicopter"])
    box: Box


def named(found: "Detections", classes: Sequence[str]) -> list[Detection]:
    """Return the detections of a picture with the names of their classes, in the detector's order and rounded."""
    rows = zip(found.boxes_xyxy_px.tolist(), found.confidences.tolist(), found.class_ids.tolist(), strict=True)
    return [
        Detection(
            label=classes[class_id],
            class_id=class_id,
            confidence=round(confidence, 4),
            box=Box(x1=round(x1, 2), y1=round(y1, 2), x2=round(x2, 2), y2=round(y2, 2)),
        )
        for (x1, y1, x2, y2), confidence, class_id in rows
    ]
