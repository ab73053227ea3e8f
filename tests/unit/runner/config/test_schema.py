from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from runner.config.compose import compose
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


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            assert field.is_required(), f"{prefix}{name} has a default"
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def test_a_key_is_described_and_has_no_value_when_it_is_in_the_schema() -> None:
    for key, field in fields(Config):
        assert field.is_required(), f"{key} has a default; values belong into conf/"
        assert (field.description or "").startswith("["), f"{key}: its description does not begin with a unit"


def test_values_stay_when_somebody_would_change_them() -> None:
    sample = SampleConfig(pictures=20, seed=0)
    with pytest.raises(ValidationError, match="seed"):
        sample.seed = 1


def test_every_key_reaches_a_stage_when_composed() -> None:
    given = {key for keys in COMPOSED.values() for key in keys}
    reaching = {key for key, _ in fields(Config) if any(key == each or key.startswith(f"{each}.") for each in given)}
    of_commands = {key for key, _ in fields(Config) if key.startswith(("dataset.name", "fallback.", "labels."))}
    assert {key for key, _ in fields(Config)} - reaching == of_commands


def test_a_stage_gets_its_own_keys_only_when_values_are_dealt_out(project: Path) -> None:
    config, _ = compose(project)
    values = config.model_dump()
    model = {key: values["model"][key] for key in ("trainer", "imgsz")}
    assert stage_values(config, "export") == {"model": model, "export": values["export"]}
    assert stage_values(config, "split") == {"split": values["split"]}
    assert not any(each.startswith(("gate", "pin", "model.name")) for keys in STAGE_KEYS.values() for each in keys)


def test_ultralytics_knows_the_arguments_when_they_have_its_names() -> None:
    ultralytics = pytest.importorskip("ultralytics.cfg")
    known = ultralytics.DEFAULT_CFG_DICT
    assert set(TrainConfig.model_fields) | set(AugmentConfig.model_fields) <= set(known)
