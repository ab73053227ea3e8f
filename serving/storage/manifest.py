"""Manifest of a published model, the part that the server reads; `publish` writes it (DESIGN: the store)."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_SHA256 = "^[0-9a-f]{64}$"


class Thresholds(BaseModel):
    """Confidences above which a detection is shown, as chosen when the model was evaluated."""

    model_config = ConfigDict(extra="allow", frozen=True)

    overall: float = Field(default=0.25, ge=0, le=1)
    classes: dict[str, float] = Field(default_factory=dict, description="class name → its own threshold")


class Manifest(BaseModel):
    """What stands beside model.onnx. Keys that the server has no use for are kept and shown by /model."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    version: int | str
    onnx_sha256: str = Field(pattern=_SHA256, description="digest of model.onnx")
    classes: list[str]
    imgsz: int | list[int] | None = None
    thresholds: Thresholds = Thresholds()
    metrics: dict[str, Any] = Field(default_factory=dict)
    verdict: Any = None
    commit: str | None = None
    dataset: dict[str, Any] = Field(default_factory=dict)
