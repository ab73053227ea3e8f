"""Schema of the configuration: type, unit, range and meaning of every key.

Values are in params.yaml and conf/. No field has a default, so a change of the schema cannot silently change a model.
A stage gets only the keys that `STAGE_KEYS` lists for it, so it cannot read a value that DVC does not track.
The head of each description (up to the first semicolon) is also the comment beside the key in conf/; a test compares.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A section of the configuration: unknown keys are refused, and values of another type, such as "5" for 5."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _like(pattern: str, expected: str) -> AfterValidator:
    """Return a validator for a regular expression; its message describes the expected text."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"which is not a regular expression ({error})") from error
    return pattern


def _class_names(names: list[str]) -> list[str]:
    """Return the names in Unicode NFC, as `dataset add` writes them, so that equal names compare equal."""
    for name in names:
        if not name.isprintable() or not name or name != name.strip():
            raise ValueError(f"expected names of printable characters, with no blanks around them; {name!r} is none")
    composed = [unicodedata.normalize("NFC", name) for name in names]
    if doubled := sorted({name for name in composed if composed.count(name) > 1}):
        raise ValueError(f"expected each name once; repeated: {', '.join(doubled)}")
    return composed


def _not_zero(number: int) -> int:
    if number == 0:
        raise ValueError("expected -1 (fill one GPU) or a number of pictures")
    return number


Sha256 = Annotated[str, _like("[0-9a-f]{64}", "64 hexadecimal digits")]
Share = Annotated[float, Field(ge=0, le=1)]
MODEL_NAME = "[a-z0-9][a-z0-9._-]{0,99}"
ModelName = Annotated[str, _like(MODEL_NAME, "at most 100 small letters, digits, '.', '_' and '-'")]


class Sample(Section):
    """The drawn dataset of the demo; read when `dataset.url` is `sample`."""

    pictures: int = Field(ge=20, le=100_000, description="[pictures] how many are drawn")
    seed: int = Field(ge=0, description="[-] the same seed draws the same bytes")


class Dataset(Section):
    """Where the labelled pictures come from."""

    name: Annotated[str, _like("[a-z0-9][a-z0-9._-]*", "small letters, digits, '.', '_' and '-'")] = Field(
        description="[-] folder of its versions in the store"
    )
    url: Annotated[
        str,
        _like(
            r"sample|store:datasets/[a-z0-9][a-z0-9._-]*/[0-9a-f]{12}\.zip",
            "sample, or store:datasets/<name>/<sha12>.zip as `python -m runner dataset add` writes it",
        ),
    ] = Field(description="[-] sample | store:datasets/<name>/<sha12>.zip")
    sha256: Sha256 | None = Field(description="[hex] digest of the zip")
    classes: Annotated[list[str], AfterValidator(_class_names)] = Field(
        description="[names] the class list in id order"
    )
    sample: Sample

    @model_validator(mode="after")
    def _digest_of_a_version(self) -> Self:
        if self.url != "sample" and self.sha256 is None:
            raise ValueError("a store: url needs dataset.sha256; `python -m runner dataset add` writes both")
        return self


class Prepare(Section):
    """What is done to each picture, and how bad a dataset may be."""

    max_width: int | None = Field(ge=32, le=65_500, description="[px] wider pictures are shrunk to this width")
    jpeg_quality: int = Field(ge=50, le=100, description="[1-100] of pictures that must be written anew")
    max_pixels: int = Field(ge=1_000_000, description="[pixels] larger pictures are left out")
    exif_boxes: Literal["stored", "seen"] = Field(
        description="[frame] stored | seen; whether boxes of EXIF-turned pictures turn with them"
    )
    max_rejected: Share = Field(description="[0-1] share of pictures and labels that may be left out")
    min_pictures: int = Field(ge=1, description="[pictures] fewer fail the stage")
    min_per_class: int = Field(ge=0, description="[boxes] fewer of any class fail the stage")


class Split(Section):
    """Which picture is trained on, which chooses thresholds, which is only measured."""

    mode: Literal["hash", "given"] = Field(description="[-] hash | given")
    val: float = Field(gt=0, lt=1, description="[0-1] share of the groups that chooses thresholds")
    test: float = Field(gt=0, lt=1, description="[0-1] share of the groups that is only measured")
    seed: int = Field(ge=0, description="[-] another seed deals the groups anew")
    group: Annotated[str, AfterValidator(_regular_expression)] | None = Field(
        description="[regex] on the file name; pictures whose match is equal stay together"
    )

    @model_validator(mode="after")
    def _leaves_pictures_to_train_on(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(f"split.val + split.test is {self.val + self.test:g}; nothing is left to train on")
        return self


class Model(Section):
    """The network and what it starts from: the part of `model` that training reads."""

    base: Annotated[str, _like(r"[a-z0-9][\w.-]*\.(yaml|pt)", "a file name, NAME.yaml or NAME.pt")] = Field(
        description="[-] NAME.yaml starts from scratch, NAME.pt from weights that were added",
    )
    sha256: Sha256 | None = Field(description="[hex] digest of NAME.pt; compose looks it up under weights")
    imgsz: int = Field(ge=32, le=4096, multiple_of=32, description="[px] side of the square input")

    @model_validator(mode="after")
    def _weights_are_in_the_store(self) -> Self:
        if self.base.endswith(".pt") and self.sha256 is None:
            raise ValueError(
                f"weights {self.base} were never added, and nothing is downloaded behind your back: get the file, then "
                f"`python -m runner weights add {self.base}`; or start from scratch with "
                f"`presets.model: {self.base[:-3]}_scratch`"
            )
        return self


class NamedModel(Model):
    """The network, and the name under which what comes of it is published."""

    name: ModelName = Field(description="[-] folder of its versions in the store")


class Train(Section):
    """Ultralytics' own training arguments, by their own names."""

    epochs: int = Field(ge=1, description="[epochs] upper bound")
    patience: int = Field(ge=0, description="[epochs] without progress before it stops")
    batch: Annotated[int, AfterValidator(_not_zero)] = Field(ge=-1, description="[pictures] -1 fills one GPU")
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp", "MuSGD"] = Field(
        description="[-] auto | SGD | Adam | AdamW | NAdam | RAdam | RMSProp | MuSGD"
    )
    lr0: float = Field(gt=0, lt=1, description="[1] initial learning rate")
    lrf: float = Field(gt=0, le=1, description="[1] final learning rate as a share of lr0")
    momentum: float = Field(ge=0, lt=1, description="[1] momentum, or Adam's beta1")
    weight_decay: float = Field(ge=0, lt=1, description="[1] L2 penalty")
    warmup_epochs: float = Field(ge=0, description="[epochs] of rising learning rate")
    warmup_bias_lr: float = Field(ge=0, lt=1, description="[1] learning rate of biases at the start")
    cos_lr: bool = Field(description="[-] cosine instead of linear decay")
    nbs: int = Field(ge=1, description="[pictures] gradients are summed up to this many")
    freeze: int = Field(ge=0, description="[layers] the first n stay as they are")
    amp: bool = Field(description="[-] mixed precision on a GPU")
    cache: bool = Field(description="[-] keep decoded pictures in memory")
    val: bool = Field(description="[-] measure on val after each epoch")


class Augment(Section):
    """Ultralytics' own augmentation arguments, by their own names."""

    hsv_h: Share = Field(description="[0-1] change of hue")
    hsv_s: Share = Field(description="[0-1] change of saturation")
    hsv_v: Share = Field(description="[0-1] change of brightness")
    degrees: float = Field(ge=0, le=180, description="[degrees] rotation up to this much either way")
    translate: Share = Field(description="[0-1] shift as a share of the picture")
    scale: Share = Field(description="[0-1] zoom in or out up to this share")
    shear: float = Field(ge=0, le=90, description="[degrees] shear up to this much either way")
    perspective: float = Field(ge=0, le=0.001, description="[0-0.001] perspective")
    flipud: Share = Field(description="[0-1] probability of turning upside down")
    fliplr: Share = Field(description="[0-1] probability of mirroring")
    mosaic: Share = Field(description="[0-1] probability of joining four pictures")
    close_mosaic: int = Field(ge=0, description="[epochs] at the end without mosaic")
    mixup: Share = Field(description="[0-1] probability of blending two pictures")
    copy_paste: Share = Field(description="[0-1] probability of pasting objects")


class Export(Section):
    """The ONNX file, and how far it may be from the weights."""

    opset: int = Field(ge=17, le=23, description="[-] ONNX operator set")
    pictures: int = Field(ge=1, description="[pictures] on which ONNX and weights are compared")
    max_difference: float = Field(
        gt=0, description="[1] largest difference allowed; boxes count as a share of the input"
    )


class Evaluate(Section):
    """How detections are measured."""

    iou: float = Field(gt=0, lt=1, description="[0-1] boxes of a class that overlap more are one object")
    max_detections: int = Field(ge=1, le=3000, description="[boxes] kept per picture")
    worst: int = Field(ge=0, description="[pictures] of the worst misses are drawn")


class Gate(Section):
    """What a model must show before it is served."""

    min_map50: Share = Field(description="[0-1] mAP50 on test that a model must reach")
    min_boxes: int = Field(ge=1, description="[boxes] a class with fewer in test is not compared")
    max_class_drop: Share = Field(
        description="[0-1] AP50 that a class may lose against the deployed model; chance comes on top"
    )
    max_latency: float = Field(gt=0, description="[ratio] milliseconds per picture to those of the deployed model")
    max_size: float = Field(gt=0, description="[ratio] bytes of model.onnx to those of the deployed model")
    resamples: int = Field(ge=100, le=100_000, description="[draws] of the test pictures, to see what chance does")
    confidence: float = Field(gt=0.5, lt=1, description="[0.5-1] how sure it must be that a class lost too much")
    deploy: bool = Field(description="[-] propose what passes for staging")


class Pin(Section):
    """How a retrain brings what it made into Git."""

    mode: Literal["push", "pull-request"] = Field(
        description="[-] push | pull-request; the second where the branch is protected"
    )


class Fallback(Section):
    """A training that wanted a GPU in the cluster, and got none in time."""

    max_epochs: int = Field(ge=1, description="[epochs] at most, on a CPU; such a model is never pinned")
    max_batch: int = Field(ge=1, description="[pictures] at most, on a CPU")


class Labels(Section):
    """The project in Label Studio, and what goes in and out."""

    title: Annotated[str, _like(r"[^\s](.{0,48}[^\s])?", "1 to 50 letters")] = Field(
        description="[-] of the project in Label Studio"
    )
    rotated: Literal["box", "refuse"] = Field(description="[-] box | refuse; what becomes of a box that was turned")
    min_new: int = Field(ge=1, description="[pictures] fewer news open no pull request")
    captures_per_day: int = Field(ge=1, le=10_000, description="[tasks] at most that `captures push` makes")
    captures_days: int = Field(ge=1, description="[days] older captures are not pushed")
    near: int = Field(ge=-1, le=32, description="[bits of 64] pictures that differ in no more look alike")


class Config(Section):
    """The whole composed configuration."""

    seed: int = Field(ge=0, description="[-] weights, order of pictures and augmentation")
    dataset: Dataset
    prepare: Prepare
    split: Split
    model: NamedModel
    train: Train
    augment: Augment
    export: Export
    evaluate: Evaluate
    gate: Gate
    pin: Pin
    fallback: Fallback
    labels: Labels


#: Keys that each stage reads; a change of one re-runs the stage. No stage reads `model.name`, `gate` and `labels`.
STAGE_KEYS: dict[str, tuple[str, ...]] = {
    "fetch": ("dataset.url", "dataset.sha256", "dataset.sample"),
    "prepare": ("dataset.classes", "prepare"),
    "split": ("split",),
    "train": ("seed", "model.base", "model.sha256", "model.imgsz", "train", "augment"),
    "export": ("model.imgsz", "export"),
    "evaluate": ("evaluate",),
}
#: Composed files: one per stage, and gate.yaml. No stage depends on gate.yaml; it records in dvc.lock the values by
#: which the model was judged, so that a retrain sees when they changed.
COMPOSED: dict[str, tuple[str, ...]] = STAGE_KEYS | {"gate": ("model.name", "gate", "pin")}


def stage_values(config: Config, stage: str) -> dict[str, Any]:
    """Return the part of the configuration in a composed file, as plain nested values."""
    whole = config.model_dump(mode="json")
    part: dict[str, Any] = {}
    for dotted in COMPOSED[stage]:
        section, _, key = dotted.partition(".")
        if key:
            part.setdefault(section, {})[key] = whole[section][key]
        else:
            part[section] = whole[section]
    return part
