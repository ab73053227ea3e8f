"""The schema: no values of its own, a description for every key; a stage is given no more than it may read."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from runner.config.schema import (
    COMPOSED,
    STAGE_KEYS,
    AugmentConfig,
    Config,
    SampleConfig,
    Section,
    TrainConfig,
    stage_values,
)

DIGEST = "0123456789abcdef" * 4
CONFIG: dict[str, Any] = {
    "seed": 0,
    "dataset": {"name": "x", "url": "sample", "sha256": None, "classes": [], "sample": {"pictures": 20, "seed": 0}},
    "prepare": {
        **{"max_width": None, "jpeg_quality": 95, "max_pixels": 1_000_000, "exif_boxes": "stored"},
        **{"max_rejected": 0.05, "min_pictures": 1, "min_per_class": 0},
    },
    "split": {"mode": "hash", "val": 0.2, "test": 0.2, "seed": 0, "group": None},
    "model": {"name": "x", "base": "yolo11n.yaml", "sha256": None, "imgsz": 64},
    "train": {
        **{"epochs": 1, "patience": 0, "batch": 2, "optimizer": "SGD", "lr0": 0.1, "lrf": 0.1, "momentum": 0.9},
        **{"weight_decay": 0, "warmup_epochs": 0, "warmup_bias_lr": 0.0, "cos_lr": False, "nbs": 2, "freeze": 0},
        **{"amp": False, "cache": False, "val": True},
    },
    "augment": dict.fromkeys(AugmentConfig.model_fields, 0),
    "export": {"opset": 20, "pictures": 1, "max_difference": 0.01},
    "evaluate": {"iou": 0.7, "max_detections": 300, "worst": 0},
    "gate": {
        **{"min_map50": 0.5, "min_boxes": 20, "max_class_drop": 0.02, "max_latency": 1.5, "max_size": 1.5},
        **{"resamples": 1000, "confidence": 0.95, "deploy": False},
    },
    "pin": {"mode": "push"},
    "fallback": {"max_epochs": 1, "max_batch": 2},
    "labels": {"title": "x", "rotated": "box", "min_new": 1, "captures_per_day": 1, "captures_days": 1, "near": -1},
}


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def changed(section: str, **values: object) -> Config:
    return Config.model_validate(CONFIG | {section: CONFIG[section] | values})


def test_all_sections_are_needed_when_read() -> None:
    assert Config.model_validate(CONFIG).model_dump() == CONFIG
    for section in CONFIG:
        with pytest.raises(ValidationError, match=section):
            Config.model_validate({key: value for key, value in CONFIG.items() if key != section})


@pytest.mark.parametrize(("key", "field"), list(fields(Config)))
def test_a_key_is_described_and_has_no_value_when_it_is_in_the_schema(key: str, field: FieldInfo) -> None:
    assert field.is_required(), f"{key} has a default; values belong into conf/"
    assert field.description, f"{key} has no description"
    assert field.description.startswith("["), f"{key}: its description does not begin with a unit"


def test_values_stay_when_somebody_would_change_them() -> None:
    sample = SampleConfig(pictures=20, seed=0)
    with pytest.raises(ValidationError, match="seed"):
        sample.seed = 1


def test_whole_numbers_are_taken_when_any_number_may_stand_there() -> None:
    assert isinstance(Config.model_validate(CONFIG).train.weight_decay, float)


@pytest.mark.parametrize("exif_boxes", ["", "Stored", None])
def test_refused_when_a_choice_is_not_one(exif_boxes: object) -> None:
    with pytest.raises(ValidationError, match="'stored' or 'seen'"):
        changed("prepare", exif_boxes=exif_boxes)


def test_class_names_are_composed_when_a_mac_wrote_them() -> None:
    assert changed("dataset", classes=["gro\u0308ße"]).dataset.classes == ["größe"]


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\tb", "\u2028"])
def test_refused_when_a_class_name_would_break_the_list(name: str) -> None:
    with pytest.raises(ValidationError, match=r"dataset\.classes"):
        changed("dataset", classes=["a", name])


def test_weights_need_a_digest_when_the_base_is_a_pt_file() -> None:
    assert changed("model", base="x.pt", sha256=DIGEST).model.sha256 == DIGEST
    with pytest.raises(ValidationError, match=r"weights add x\.pt"):
        changed("model", base="x.pt")


def test_every_key_reaches_a_stage_when_composed() -> None:
    given = {key for keys in COMPOSED.values() for key in keys}
    reaching = {key for key, _ in fields(Config) if any(key == each or key.startswith(f"{each}.") for each in given)}
    of_commands = {key for key, _ in fields(Config) if key.startswith(("dataset.name", "fallback.", "labels."))}
    assert {key for key, _ in fields(Config)} - reaching == of_commands


def test_a_stage_gets_its_own_keys_only_when_values_are_dealt_out() -> None:
    config = Config.model_validate(CONFIG)
    assert stage_values(config, "export") == {"model": {"imgsz": 64}, "export": CONFIG["export"]}
    assert stage_values(config, "split") == {"split": CONFIG["split"]}
    assert set(stage_values(config, "train")) == {"seed", "model", "train", "augment"}
    assert set(stage_values(config, "gate")) == {"model", "gate", "pin"}
    assert not any(each.startswith(("gate", "pin", "model.name")) for keys in STAGE_KEYS.values() for each in keys)


def test_ultralytics_knows_the_arguments_when_they_have_its_names() -> None:
    ultralytics = pytest.importorskip("ultralytics.cfg")
    known = ultralytics.DEFAULT_CFG_DICT
    assert set(TrainConfig.model_fields) | set(AugmentConfig.model_fields) <= set(known)
