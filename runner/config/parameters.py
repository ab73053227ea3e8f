"""Pipeline parameters of the workshop, mapped to keys of params.yaml and params of the Pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runner.errors import ConfigError

KEYS = {
    "DATASET_ZIP": "dataset.url",
    "MODEL_BASE": "model.base",
    "MODEL_NAME": "model.name",
    "NUM_EPOCHS": "train.epochs",
    "BATCH_SIZE": "train.batch",
    "MAX_WIDTH": "prepare.max_width",
}
SWITCHES = ("GPU", "DEPLOY", "IMG_RESIZE")  # Y or N
NAMES = (*KEYS, *SWITCHES, "GPU_TIMEOUT")


class Wanted(NamedTuple):
    """Values for one run: KEY=VALUE for params.yaml as in `dvc exp run -S`, and params of the Pipeline."""

    values: list[str]
    params: dict[str, str]


def parse_overrides(given: Iterable[str]) -> Wanted:
    """Sort NAME=VALUE into values of params.yaml and params of the Pipeline.

    Args:
        given: NAME is the workshop's name of a parameter, or a key of params.yaml.
    Raises:
        ConfigError: not NAME=VALUE, or a switch that is neither Y nor N.
    """
    values: dict[str, str] = {}
    params: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ConfigError(f"{each!r}: expected NAME=VALUE, such as NUM_EPOCHS=50 or train.epochs=50")
        if name == "GPU_TIMEOUT":
            params["gpu-timeout"] = value
        elif name in SWITCHES:
            _switch(name, _is_yes(name, value), values, params)
        elif name in KEYS:
            values[KEYS[name]] = value
        elif name.isupper():
            raise ConfigError(f"{name}: no such parameter, expected one of {', '.join(NAMES)}, or a key of params.yaml")
        else:
            values[name] = value
    if any(key.lstrip("+") == "dataset.url" for key in values) and not any("sha256" in key for key in values):
        raise ConfigError(
            f"dataset.url={values['dataset.url']} needs dataset.sha256=… too; "
            "`python -m runner dataset add FILE.zip` puts it into the store and writes both into params.yaml"
        )
    return Wanted([f"{key}={value}" for key, value in values.items()], params)


def _switch(name: str, is_yes: bool, values: dict[str, str], params: dict[str, str]) -> None:
    if name == "GPU":
        params["gpu"] = "auto" if is_yes else "off"
    elif name == "DEPLOY":
        values["gate.deploy"] = "true" if is_yes else "false"
    elif not is_yes:
        values["prepare.max_width"] = "null"


def _is_yes(name: str, value: str) -> bool:
    if value.upper() not in ("Y", "N"):
        raise ConfigError(f"{name}: found {value!r}, expected Y or N")
    return value.upper() == "Y"
