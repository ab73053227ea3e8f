"""Manifest of a published model: `publish` writes it, the server and the pipeline read it (docs/releases.md).

The fields stand in the order of manifest.json, so a manifest that was read and written again has the same bytes.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_SHA256 = "^[0-9a-f]{64}$"


class _Part(BaseModel):
    """Part of a manifest; keys of other versions of this program are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Thresholds(_Part):
    """Confidences above which a detection is shown, as chosen when the model was evaluated."""

    overall: float = Field(default=0.25, ge=0, le=1)
    classes: dict[str, float] = Field(default_factory=dict, description="class name → its own threshold")

    def of(self, classes: Iterable[str]) -> list[float]:
        """Return a threshold for each class, in the given order."""
        return [self.classes.get(name, self.overall) for name in classes]


class Finding(_Part):
    """One criterion of the gate.

    Attributes:
        criterion: `mAP50`, `AP50 of <class>`, `latency` or `size`.
        candidate: figure of the judged model: 0 to 1, milliseconds or megabytes; None where there is none.
        deployed: the same of the deployed model; None for a criterion without a comparison.
        said: the comparison in words.
    """

    criterion: str
    candidate: float | None = None
    deployed: float | None = None
    said: str
    passed: bool


class ComparedVersion(_Part):
    """Deployed version that the judged model was compared with."""

    model: str
    version: int
    manifest_sha256: str = ""


class Verdict(_Part):
    """Verdict of the gate on a model.

    Attributes:
        passed: whether every criterion is met.
        left_out: a line for each thing that could not be judged, with the reason.
        onnx_sha256: digest of the judged model file.
        pictures: number of test pictures.
        deployed: None where no model was deployed.
        criteria: the section `gate` of the configuration, without `deploy`.
        deploy: `gate.deploy`: whether a model that passes is proposed for staging.
    """

    passed: bool = False
    findings: list[Finding] = []
    left_out: list[str] = []
    onnx_sha256: str = ""
    pictures: int = 0
    deployed: ComparedVersion | None = None
    criteria: dict[str, int | float] = {}
    deploy: bool = False

    @property
    def failed(self) -> list[Finding]:
        """Criteria that are not met."""
        return [each for each in self.findings if not each.passed]


class Manifest(_Part):
    """Content of manifest.json, beside model.onnx.

    Attributes:
        version: 1, 2, 3…; text where another program wrote the manifest.
        imgsz: side of a square input in pixels, or height and width.
        license: as the exporter wrote it.
        metrics: of `evaluate`, see metrics.json; empty for a stock model.
        verdict: None where the gate did not judge the model.
        commit: None where the work tree has none, or is unknown.
        work_tree: in words, whether it had uncommitted changes.
        dataset: name, url, sha256, pictures, boxes (class → number); empty for a stock model.
        params: the composed configuration; empty for a stock model.
        libraries: name → version.
        trial: the overrides of a run with values of its own; empty for committed values.
        created: ISO 8601, UTC.
        files: name → sha256 of the run's files in the store.
    """

    name: str = Field(min_length=1, max_length=200)
    version: int | str
    onnx_sha256: str = Field(pattern=_SHA256, description="digest of model.onnx")
    classes: list[str]
    imgsz: int | list[int] | None = None
    license: str | None = None
    thresholds: Thresholds = Thresholds()
    metrics: dict[str, Any] = {}
    verdict: Verdict | None = None
    commit: str | None = None
    work_tree: str = ""
    dataset: dict[str, Any] = {}
    params: dict[str, Any] = {}
    libraries: dict[str, str] = {}
    trial: str = ""
    created: str | None = None
    files: dict[str, str] = {}
