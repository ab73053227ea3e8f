"""Override values for one run: written into the clone's params.yaml, in the syntax of `dvc exp run -S`.

The first line of the file marks it, so it differs from every committed params.yaml and its model is never pinned
(see retrain/bot_commit.py).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.config.compose import compose
from runner.config.references import EXPECTED, has_resolver, refuse_resolvers
from runner.errors import ConfigError
from runner.workspace import PARAMS, write_text

NOTE = "# Of one run, not of the repository: "
#: Pipeline parameters of the workshop → keys of params.yaml.
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


def parse_overrides(given: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Parse NAME=VALUE, where NAME is a parameter of the workshop or a key of params.yaml; ConfigError for others.

    Returns KEY=VALUE for params.yaml, as in `dvc exp run -S`, and params of the Pipeline.
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
    return [f"{key}={value}" for key, value in values.items()], params


def override(project: Path, values: Sequence[str], why: str) -> None:
    """Set values in params.yaml and the reason in its first line, atomically; ConfigError if a value is not allowed.

    A value is KEY=VALUE, or +KEY=VALUE for a key that params.yaml does not name.
    """
    params = project / PARAMS
    before = params.read_text(encoding="utf-8")
    try:
        set_values(project, values)
        write_text(params, f"{NOTE}{' '.join([why, *values])}\n{params.read_text(encoding='utf-8')}")
        compose(project)
    except ConfigError:
        write_text(params, before)
        raise


def trial_note(project: Path) -> str:
    """Return the note about this run's overrides in params.yaml; empty if there are none."""
    first = (project / PARAMS).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix(NOTE) if first.startswith(NOTE) else ""


def set_values(project: Path, values: Sequence[str]) -> None:
    """Set values in params.yaml as `dvc exp run -S` does, keeping comments; ConfigError for an unknown key."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    if not values:
        return
    for value in values:
        if has_resolver(value.replace("\\", "")):  # a backslash may stand before each of its characters
            raise ConfigError(f"{value}: {EXPECTED}")
    refuse_resolvers(project / PARAMS, PARAMS)  # DVC resolves the whole file
    try:
        apply_overrides(project / PARAMS, list(values))
    except DvcException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(
            f"{' '.join(values)}: {reason}; expected KEY=VALUE as in `dvc exp run -S`, such as train.epochs=50, and "
            "+KEY=VALUE for a key of conf/ that params.yaml does not name"
        ) from error


def limit(project: Path) -> list[str]:
    """Apply the `fallback` limits for training on a CPU; return the values set."""
    config, _ = compose(project)
    limits, train = config.fallback, config.train
    batch = limits.max_batch if train.batch == -1 else min(train.batch, limits.max_batch)
    values = [f"++train.epochs={min(train.epochs, limits.max_epochs)}", f"++train.batch={batch}"]
    override(project, values, "no GPU came, the CPU's limits:")
    return values
