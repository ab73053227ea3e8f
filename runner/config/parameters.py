"""Pipeline parameters of the workshop, mapped to keys of params.yaml and params of the Pipeline."""

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


class Overrides(NamedTuple):
    """Values for one run: KEY=VALUE for params.yaml as in `dvc exp run -S`, and params of the Pipeline."""

    values: list[str]
    params: dict[str, str]


def parse_overrides(given: Iterable[str]) -> Overrides:
    """Parse NAME=VALUE, where NAME is a parameter of the workshop or a key of params.yaml; ConfigError for others."""
    values: dict[str, str] = {}
    params: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ConfigError(f"{each!r}: expected NAME=VALUE, such as NUM_EPOCHS=50 or train.epochs=50")
        if name == "GPU_TIMEOUT":
            params["gpu-timeout"] = value
        elif name in SWITCHES:
            if (letter := value.upper()) not in ("Y", "N"):
                raise ConfigError(f"{name}: found {value!r}, expected Y or N")
            if name == "GPU":
                params["gpu"] = "auto" if letter == "Y" else "off"
            elif name == "DEPLOY":
                values["gate.deploy"] = "true" if letter == "Y" else "false"
            elif letter == "N":
                values["prepare.max_width"] = "null"
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
    return Overrides([f"{key}={value}" for key, value in values.items()], params)
