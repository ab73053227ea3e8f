"""Manifest of a published model: `publish` writes it, the server and the pipeline read it (docs/releases.md).

The fields stand in the order of manifest.json, so a manifest that was read and written again has the same bytes.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.vision.letterbox import DECODINGS, FORMER_FORM, OTHER_DECODINGS, OTHER_SHAPES, SHAPES, InputForm
from serving.vision.metadata import ACTIVATIONS, OUTPUT_FORMS, Known, OutputForm
from serving.vision.variants import FLOAT, variant_file

_SHA256 = "^[0-9a-f]{64}$"
_Side = Annotated[int, Field(ge=1, le=8192)]
_Sides = _Side | Annotated[list[_Side], Field(min_length=2, max_length=2)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _one_of(*texts: str) -> str:
    return f"^({'|'.join(texts)})$"


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


class Preprocessing(_Part):
    """Way from a picture to the model's input; that of versions which name none stands here. See `InputForm`."""

    input_shape: str = Field(default=FORMER_FORM.shape, pattern=_one_of(*SHAPES, *OTHER_SHAPES))
    decoding: str = Field(default=FORMER_FORM.decoding, pattern=_one_of(*DECODINGS, *OTHER_DECODINGS))
    scale: _Above0 = 1 / 255
    mean: tuple[_Finite, _Finite, _Finite] = (0.0, 0.0, 0.0)
    std: tuple[_Above0, _Above0, _Above0] = (1.0, 1.0, 1.0)
    channels: str = Field(default="RGB", pattern=_one_of("RGB", "BGR"))

    @property
    def form(self) -> InputForm:
        """As the detector takes it."""
        return InputForm(self.input_shape, self.decoding, self.scale, self.mean, self.std, self.channels)


class Output(_Part):
    """Form of the model's output, where it is no YOLO detector's that is recognised. See `OutputForm`."""

    form: str = Field(pattern=_one_of(*OUTPUT_FORMS))
    boxes: str = ""
    scores: str = ""
    activation: str = Field(default="sigmoid", pattern=_one_of(*ACTIVATIONS))
    columns: list[Annotated[int, Field(ge=0)]] | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.form == "queries" and not (self.boxes and self.scores):
            raise ValueError("queries come in two outputs; expected their names in `boxes` and `scores`")
        return self


class Declaration(BaseModel):
    """What is declared of a model of another family; the keys are those of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preprocessing: Preprocessing
    output: Output
    classes: list[str] | None = None  # in the order of the scores; None: as the file names them
    imgsz: _Sides | None = None  # None: as the file says
    license: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := {"input_shape", "decoding"} - self.preprocessing.model_fields_set:
            raise ValueError(f"preprocessing has no {' and '.join(sorted(missing))}; expected all that is not as usual")
        if unknown := [*(self.preprocessing.model_extra or {}), *(self.output.model_extra or {})]:
            raise ValueError(f"unknown key {unknown[0][:100]!r} in preprocessing or output")
        return self

    @property
    def known(self) -> Known:
        """As the detector takes it."""
        return _known(self.classes, self.imgsz, self.output)


def _known(classes: list[str] | None, imgsz: int | list[int] | None, output: Output | None) -> Known:
    sides = [imgsz] * 2 if isinstance(imgsz, int) else imgsz or []
    form = OutputForm(output.form, output.boxes, output.scores, output.activation, output.columns) if output else None
    return Known(classes or None, (sides[0], sides[1]) if len(sides) == 2 else None, form)


class Finding(_Part):
    """One criterion of the gate."""

    criterion: str  # mAP50, AP50 of <class>, boxes of <class>, latency or size
    candidate: float | None = None  # of the judged model: 0 to 1, milliseconds or megabytes; None where there is none
    deployed: float | None = None  # of the deployed model or the champion; None for a criterion without a comparison
    said: str  # the comparison in words
    passed: bool


class ComparedVersion(_Part):
    """Version that the judged model was compared with."""

    model: str
    version: int
    manifest_sha256: str = ""


class Variant(_Part):
    """Smaller form of the model in a file beside model.onnx, which the server may run in its place."""

    kind: str = Field(pattern="^[a-z0-9]{1,20}$", description="int8 or fp16; names the file, such as model.int8.onnx")
    sha256: str = Field(pattern=_SHA256, description="digest of the file")
    instructions: list[str] = []  # for INT8, of the CPU that the gate judged it on, as /proc/cpuinfo names them


class JudgedVariant(Variant):
    """Verdict of the gate on a variant, compared with model.onnx."""

    findings: list[Finding] = []

    @property
    def passed(self) -> bool:
        """Whether every criterion is met, so that the variant is published and served; not without a criterion."""
        return bool(self.findings) and all(each.passed for each in self.findings)


class Verdict(_Part):
    """Verdict of the gate on a model."""

    passed: bool = False  # whether every criterion is met
    findings: list[Finding] = []
    left_out: list[str] = []  # a line for each thing that could not be judged, with the reason
    onnx_sha256: str = ""  # digest of the judged model file
    pictures: int = 0  # number of test pictures
    deployed: ComparedVersion | None = None  # None where no model was deployed
    champion: ComparedVersion | None = None  # None where it is the deployed one, or there is none
    criteria: dict[str, Any] = {}  # the section `gate` of the configuration, without `deploy`
    deploy: bool = False  # `gate.deploy`: whether a model that passes is proposed for staging
    variant: JudgedVariant | None = None  # None where `export.quantize` is none

    @property
    def failed(self) -> list[Finding]:
        """Criteria that are not met."""
        return [each for each in self.findings if not each.passed]


class Latest(_Part):
    """Content of latest.json, beside the folders of the versions: the newest that passed the gate."""

    version: int = Field(ge=1, description="number of the version, and name of its folder")
    sha256: str = Field(pattern=_SHA256, description="digest of its manifest.json")


class Manifest(_Part):
    """Content of manifest.json, beside model.onnx; a stock model has no metrics, dataset and params."""

    name: str = Field(min_length=1, max_length=200)
    version: int | str  # 1, 2, 3…; text where another program wrote the manifest
    onnx_sha256: str = Field(pattern=_SHA256, description="digest of model.onnx")
    classes: list[str]
    imgsz: int | list[int] | None = None  # side of a square input in pixels, or height and width
    preprocessing: Preprocessing = Preprocessing()
    output: Output | None = None  # None: recognised
    head: str | None = None  # one_to_many or one_to_one; None in versions that do not name it
    license: str | None = None  # as the exporter wrote it
    thresholds: Thresholds = Thresholds()
    metrics: dict[str, Any] = {}  # of `evaluate`, see metrics.json
    verdict: Verdict | None = None  # None where the gate did not judge the model
    commit: str | None = None  # None where the work tree has none, or is unknown
    work_tree: str = ""  # in words, whether it had uncommitted changes
    dataset: dict[str, Any] = {}  # name, url, sha256, pictures, boxes (class → number)
    params: dict[str, Any] = {}  # the composed configuration
    libraries: dict[str, str] = {}  # name → version
    variant: Variant | None = None  # None where there is none, or the gate refused it
    trial: str = ""  # the overrides of a run with values of its own; empty for committed values
    gated_by: str = ""  # in words, who ran the gate: a PipelineRun of the cluster, or somebody by hand
    created: str | None = None  # ISO 8601, UTC
    files: dict[str, str] = {}  # name → sha256 of the run's files in the store

    @property
    def model_files(self) -> dict[str, str]:
        """Name → sha256 of each model file beside the manifest."""
        files = {variant_file(FLOAT): self.onnx_sha256}
        return files | ({variant_file(self.variant.kind): self.variant.sha256} if self.variant else {})

    @property
    def known(self) -> Known:
        """What it says of the model file, as the detector takes it."""
        return _known(self.classes, self.imgsz, self.output)
