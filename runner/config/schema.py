"""Schema of the configuration: type, unit, range and meaning of every key; the values are in params.yaml and conf/.

No field has a default, so a change of the schema cannot change a model. A stage gets only the keys that `STAGE_KEYS`
lists for it, so it cannot read a value that DVC does not track. A description, up to its first semicolon, is also the
comment beside the key in conf/.
"""

import re
import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, model_validator


class Section(BaseModel):
    """Section of the configuration; unknown keys are errors, and so are values of another type, such as "5" for 5.

    A stage builds the validators of the sections that it reads, and no others: that takes time at each start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


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


def _classes(value: object) -> list[str] | dict[str, str | None]:
    """Return class names, or a mapping of the dataset's names, in Unicode NFC, as `dataset add` writes them."""
    if isinstance(value, dict):
        targets = [target for target in value.values() if target is not None]
        names = {name: _class_names([name])[0] for name in [*value, *targets]}
        return {names[own]: None if target is None else names[target] for own, target in value.items()}
    return _class_names(value)


def _class_names(names: object) -> list[str]:
    if not isinstance(names, list):
        raise ValueError("expected a list of class names, or the dataset's names with new ones, or empty ones")
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or not name or name != name.strip():
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
Regex = Annotated[str, AfterValidator(_regular_expression)]
Title = Annotated[str, _like(r"[^\s](.{0,48}[^\s])?", "1 to 50 letters")]
DatasetName = Annotated[str, _like("[a-z0-9][a-z0-9._-]*", "small letters, digits, '.', '_' and '-'")]
BaseName = Annotated[str, _like(r"[a-z0-9][\w.-]*\.(yaml|pt)", "a file name, NAME.yaml or NAME.pt")]
ModelName = Annotated[str, _like(MODEL_NAME, "at most 100 small letters, digits, '.', '_' and '-'")]


class SampleConfig(Section):
    """Drawn dataset of the demo; read when `dataset.url` is `sample`."""

    pictures: int = Field(ge=20, le=100_000, description="[pictures] number of drawn pictures")
    seed: int = Field(ge=0, description="[-] random seed of the drawing; the same seed draws the same bytes")


class DatasetConfig(Section):
    """Source of the labelled pictures."""

    name: DatasetName = Field(description="[-] folder of its versions in the store")
    url: Annotated[
        str,
        _like(
            r"sample|store:datasets/[a-z0-9][a-z0-9._-]*/[0-9a-f]{12}\.(jsonl|zip)",
            "sample, or store:datasets/<name>/<sha12>.jsonl as `python -m runner dataset add` writes it",
        ),
    ] = Field(description="[-] sample | store:datasets/<name>/<sha12>.jsonl")
    sha256: Sha256 | None = Field(description="[hex] SHA-256 of the version's index")
    classes: Annotated[list[str] | dict[str, str | None], PlainValidator(_classes)] = Field(
        description="[names] class names in id order"
    )
    sample: SampleConfig

    @property
    def listed(self) -> list[str]:
        """`classes`, where they are a list and no mapping of the dataset's own names."""
        return self.classes if isinstance(self.classes, list) else []

    @model_validator(mode="after")
    def _digest_of_a_version(self) -> Self:
        if self.url != "sample" and self.sha256 is None:
            raise ValueError("a store: url needs dataset.sha256; `python -m runner dataset add` writes both")
        return self


class PrepareConfig(Section):
    """Conversion of pictures, and the limits of the data gate."""

    max_width: int | None = Field(ge=32, le=65_500, description="[px] width to which wider pictures are shrunk")
    jpeg_quality: int = Field(ge=50, le=100, description="[1-100] JPEG quality of pictures that are encoded anew")
    max_pixels: int = Field(ge=1_000_000, description="[pixels] maximum size of a picture")
    max_rejected: Share = Field(description="[0-1] maximum fraction of pictures and of labels left out")
    max_clipped: Share = Field(description="[0-1] maximum fraction of boxes that leave the picture")
    duplicates: Literal["refuse", "labelled"] = Field(description="[-] refuse | labelled")
    min_pictures: int = Field(ge=1, description="[pictures] minimum number of pictures")
    min_per_class: int = Field(ge=0, description="[boxes] minimum number of boxes of each class")


#: Parts of a dataset: trained on, used to choose thresholds, used to measure.
PARTS = ("train", "val", "test")


class SplitConfig(Section):
    """Assignment of pictures to PARTS."""

    mode: Literal["auto", "given", "hash"] = Field(description="[-] auto | given | hash")
    val: float = Field(gt=0, lt=1, description="[0-1] fraction of groups in val, which chooses the thresholds")
    test: float = Field(gt=0, lt=1, description="[0-1] fraction of groups in test, on which metrics are measured")
    seed: int = Field(ge=0, description="[-] seed of the hash")
    group: Regex | None = Field(description="[regex] group key in the file name; equal matches stay in one part")
    near: Literal["keep", "refuse", "ignore"] = Field(description="[-] keep | refuse | ignore")

    @model_validator(mode="after")
    def _leaves_pictures_to_train_on(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(f"split.val + split.test is {self.val + self.test:g}; nothing is left to train on")
        return self


class ModelConfig(Section):
    """Network and its initial weights: the part of `model` that training reads."""

    trainer: Literal["ultralytics", "libreyolo"] = Field(description="[-] ultralytics | libreyolo")
    base: BaseName = Field(description="[-] NAME.yaml: random weights | NAME.pt: pretrained, added before")
    sha256: Sha256 | None = Field(description="[hex] SHA-256 of NAME.pt; compose looks it up under weights")
    imgsz: int = Field(ge=32, le=4096, multiple_of=32, description="[px] side of the square input")

    @model_validator(mode="after")
    def _base_is_of_the_trainer(self) -> Self:
        if self.trainer == "libreyolo" and not re.fullmatch(r"yolox_[ntsmlx]\.(yaml|pt)", self.base):
            raise ValueError(
                f"base is {self.base}, expected YOLOX in a size that LibreYOLO has: yolox_n.yaml, or t, s, m, l, x in "
                "the place of n; pretrained as yolox_n.pt"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_in_the_store(self) -> Self:
        if self.base.endswith(".pt") and self.sha256 is None:
            raise ValueError(
                f"weights {self.base} are not in the store, and no stage downloads weights: get the file, then run "
                f"`python -m runner weights add {self.base}`; or train from scratch with "
                f"`presets.model: {self.base[:-3]}_scratch`"
            )
        return self


class NamedModelConfig(ModelConfig):
    """Network, and the name of the published model."""

    name: ModelName = Field(description="[-] folder of its versions in the store")


class TrainConfig(Section):
    """Training arguments, named as Ultralytics names them; LibreYOLO takes those that it has."""

    epochs: int = Field(ge=1, description="[epochs] maximum number of epochs")
    patience: int = Field(ge=0, description="[epochs] early stopping after this many without improvement")
    batch: Annotated[int, AfterValidator(_not_zero)] = Field(ge=-1, description="[pictures] batch size")
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp", "MuSGD"] = Field(
        description="[-] auto | SGD | Adam | AdamW | NAdam | RAdam | RMSProp | MuSGD"
    )
    lr0: float = Field(gt=0, lt=1, description="[1] initial learning rate")
    lrf: float = Field(gt=0, le=1, description="[1] final learning rate as a fraction of lr0")
    momentum: float = Field(ge=0, lt=1, description="[1] momentum, or Adam's beta1")
    weight_decay: float = Field(ge=0, lt=1, description="[1] L2 penalty")
    warmup_epochs: float = Field(ge=0, description="[epochs] duration of the learning-rate warm-up")
    warmup_bias_lr: float = Field(ge=0, lt=1, description="[1] initial learning rate of biases in the warm-up")
    cos_lr: bool = Field(description="[-] cosine instead of linear learning-rate decay")
    nbs: int = Field(ge=1, description="[pictures] nominal batch size of accumulated gradients")
    freeze: int = Field(ge=0, description="[layers] number of first layers that are not trained")
    amp: bool = Field(description="[-] mixed precision on a GPU")
    cache: bool = Field(description="[-] cache decoded pictures in memory")
    val: bool = Field(description="[-] validate after each epoch")


class AugmentConfig(Section):
    """Augmentation arguments, named as Ultralytics names them; LibreYOLO takes those that it has."""

    hsv_h: Share = Field(description="[0-1] maximum change of hue")
    hsv_s: Share = Field(description="[0-1] maximum change of saturation")
    hsv_v: Share = Field(description="[0-1] maximum change of brightness")
    degrees: float = Field(ge=0, le=180, description="[degrees] maximum rotation either way")
    translate: Share = Field(description="[0-1] maximum shift as a fraction of the picture")
    scale: Share = Field(description="[0-1] maximum zoom in or out")
    shear: float = Field(ge=0, le=90, description="[degrees] maximum shear either way")
    perspective: float = Field(ge=0, le=0.001, description="[0-0.001] maximum perspective distortion")
    flipud: Share = Field(description="[0-1] probability of a vertical flip")
    fliplr: Share = Field(description="[0-1] probability of a horizontal flip")
    mosaic: Share = Field(description="[0-1] probability of a mosaic of four pictures")
    close_mosaic: int = Field(ge=0, description="[epochs] number of last epochs without mosaic")
    mixup: Share = Field(description="[0-1] probability of blending two pictures")
    copy_paste: Share = Field(description="[0-1] probability of pasting objects of another picture")


class ExportConfig(Section):
    """ONNX file, its largest difference from the weights, and its variant."""

    opset: int = Field(ge=17, le=23, description="[-] ONNX operator set")
    head: Literal["one_to_many", "one_to_one"] = Field(description="[-] one_to_many | one_to_one")
    input_shape: Literal["margin", "hug", "square"] = Field(description="[-] margin | hug | square")
    decoding: Literal["averaged", "full"] = Field(description="[-] averaged | full")
    pictures: int = Field(ge=1, description="[pictures] number of pictures that are compared")
    max_difference: float = Field(gt=0, description="[1] maximum difference between ONNX and weights")
    quantize: Literal["none", "int8", "fp16"] = Field(description="[-] none | int8 | fp16")
    calibration: int = Field(ge=1, le=200, description="[pictures] number of pictures of train that calibrate INT8")


class EvaluateConfig(Section):
    """Evaluation of the model."""

    iou: float = Field(gt=0, lt=1, description="[0-1] IoU threshold of non-maximum suppression")
    max_detections: int = Field(ge=1, le=3000, description="[boxes] maximum number of detections per picture")
    worst: int = Field(ge=0, description="[pictures] number of the worst misses that are drawn")


class ChampionConfig(Section):
    """Reset of the champion: the version that a candidate may not fall behind, however many small losses led there."""

    since: int = Field(ge=1, description="[version] first version of model.name that may be champion")
    reason: str | None = Field(description="[-] why versions before it are no measure any more")

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if self.since > 1 and not (self.reason or "").strip():
            raise ValueError(f"since {self.since} resets the champion, expected a reason beside it")
        return self


class VariantConfig(Section):
    """Criteria for the variant that `export.quantize` makes, beside the model's own."""

    required: bool = Field(description="[-] a model whose variant is refused does not pass")
    max_drop: Share = Field(description="[0-1] maximum loss of mAP50 that the bootstrap leaves possible")
    min_speedup: float = Field(gt=0, description="[ratio] minimum CPU time of float, relative to INT8")


class GateConfig(Section):
    """Criteria for deployment."""

    min_map50: Share = Field(description="[0-1] minimum mAP50 on test")
    min_ap50: dict[str, Share] | None = Field(description="[0-1] minimum AP50 on test of classes, by name")
    min_boxes: int = Field(ge=1, description="[boxes] minimum number of test boxes of each class")
    unjudged: Annotated[list[str], AfterValidator(_class_names)] = Field(
        description="[names] classes that pass with fewer test boxes than min_boxes"
    )
    renamed: dict[str, str | None] = Field(description="[names] new names of classes that the dataset renamed")
    max_class_drop: Share = Field(description="[0-1] allowed AP50 drop of a class, in addition to the bootstrap margin")
    max_latency: float = Field(gt=0, description="[ratio] maximum latency per picture, relative to the deployed model")
    max_size: float = Field(gt=0, description="[ratio] maximum size of model.onnx, relative to the deployed model")
    max_ms: float | None = Field(gt=0, description="[ms] maximum latency per picture on the gate's machine")
    max_mb: float | None = Field(gt=0, description="[MB] maximum size of model.onnx")
    resamples: int = Field(ge=100, le=100_000, description="[draws] number of bootstrap resamples of the test pictures")
    confidence: float = Field(gt=0.5, lt=1, description="[0.5-1] confidence level at which a class drop fails")
    champion: ChampionConfig
    variant: VariantConfig
    deploy: bool = Field(description="[-] propose a passing model for staging")
    disagreements: int = Field(
        ge=0, description="[pictures] minimum number of disagreements looked at before `promote --to prod`"
    )


class PinConfig(Section):
    """Commit of a retrain's results to Git."""

    mode: Literal["push", "pull-request"] = Field(description="[-] push | pull-request")


class FallbackConfig(Section):
    """Limits of a training in the cluster that got no GPU in time."""

    max_epochs: int = Field(ge=1, description="[epochs] maximum number of epochs on a CPU")
    max_batch: int = Field(ge=1, description="[pictures] maximum batch size on a CPU")


class LabelsConfig(Section):
    """Project in Label Studio, and its imports and exports."""

    title: Title = Field(description="[-] title of the project in Label Studio")
    rotated: Literal["box", "refuse"] = Field(description="[-] box | refuse; how rotated boxes are read")
    min_new: int = Field(
        ge=1, description="[pictures] open a pull request only when at least this many pictures changed"
    )
    captures_per_day: int = Field(ge=1, le=10_000, description="[tasks] maximum per day from `captures push`")
    captures_days: int = Field(ge=1, description="[days] maximum age of captures that are pushed")
    double_share: float = Field(ge=0, le=1, description="[0-1] fraction of pictures that a second person annotates too")
    sheet: bool = Field(description="[-] true | false; show the changed pictures in the pull request")
    near: int = Field(ge=-1, le=32, description="[bits of 64] near-duplicates: at most this many hash bits differ")


class Config(Section):
    """Whole composed configuration."""

    seed: int = Field(ge=0, le=2**32 - 1, description="[-] weights, order of pictures and augmentation")
    dataset: DatasetConfig
    prepare: PrepareConfig
    split: SplitConfig
    model: NamedModelConfig
    train: TrainConfig
    augment: AugmentConfig
    export: ExportConfig
    evaluate: EvaluateConfig
    gate: GateConfig
    pin: PinConfig
    fallback: FallbackConfig
    labels: LabelsConfig


#: Configuration, and (key, preset's value, other value of params.yaml).
Composed = tuple[Config, list[tuple[str, object, object]]]
#: Keys that each stage reads; a change of one re-runs the stage. No stage reads `model.name`, `gate` and `labels`.
STAGE_KEYS: dict[str, tuple[str, ...]] = {
    "fetch": ("dataset.url", "dataset.sha256", "dataset.sample"),
    "prepare": ("dataset.classes", "prepare"),
    "split": ("split",),
    "train": ("seed", "model.trainer", "model.base", "model.sha256", "model.imgsz", "train", "augment"),
    "export": ("model.trainer", "model.imgsz", "export"),
    "evaluate": ("evaluate",),
}
#: Composed files: one per stage, and gate.yaml. No stage depends on gate.yaml; dvc.lock records it, so that a retrain
#: notices changed criteria.
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
