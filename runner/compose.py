"""Lay params.yaml over the presets that it picks from conf/, check the result, write one file per stage.

DVC does not compose Hydra's configuration in `dvc repro`, so this is a stage like any other: it runs when params.yaml,
conf/ or the schema changed, and the stages behind it run when their own file came out different.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from runner.config import STAGE_KEYS, Config, stage_values
from runner.errors import ConfigError
from runner.files import write_text

PARAMS = Path("params.yaml")
CONF = Path("conf")


class Hidden(NamedTuple):
    """A key of a preset that params.yaml sets to something else."""

    key: str
    preset: Any
    params: Any


def compose(project: Path) -> tuple[Config, list[Hidden]]:
    """Return the checked configuration, and what params.yaml hides of the presets.

    A key of params.yaml without a value leaves the preset's value.

    Raises:
        ConfigError: a file cannot be read, a preset does not exist, or a key or value is not allowed.
    """
    params = _read_params(project / PARAMS)
    presets = _check_presets(params.pop("presets", None), project)
    weights = _mapping(params.pop("weights", None), "weights")
    values = _without_empty(params)
    try:
        with initialize_config_dir(str((project / CONF).resolve()), version_base="1.3"):
            base = hydra_compose("config", overrides=[f"{group}={preset}" for group, preset in presets.items()])
        OmegaConf.set_struct(base, False)  # the schema, not Hydra, refuses unknown keys
        hidden = [
            Hidden(key, OmegaConf.to_object(old) if OmegaConf.is_config(old) else old, new)
            for key, new in _leaves(values)
            if (old := _select(base, key)) not in (None, new)
        ]
        merged = OmegaConf.to_container(OmegaConf.merge(base, values), resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(_first_line(f"{PARAMS} over {CONF}/: {error}")) from error
    assert isinstance(merged, dict)
    if isinstance(model := merged.get("model"), dict):
        model["sha256"] = weights.get(str(model.get("base")))
    try:
        return Config.model_validate(merged), hidden
    except ValidationError as error:
        lines = [_explain(dict(detail), project, values, presets) for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def write_stage_files(config: Config, folder: Path) -> None:
    """Write `<stage>.yaml` for every stage into `folder`, each whole or not at all."""
    for stage in STAGE_KEYS:
        write_text(folder / f"{stage}.yaml", yaml.safe_dump(stage_values(config, stage), sort_keys=False))


def _read_params(path: Path) -> dict[str, Any]:
    try:
        return _mapping(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")), str(PARAMS))
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{PARAMS}:{mark.line + 1}" if mark else f"{PARAMS}"
        what = getattr(error, "problem", None) or error
        raise ConfigError(f"{where}: not YAML: {_first_line(str(what))}") from error
    except OSError as error:
        raise ConfigError(f"{PARAMS}: {error.strerror}; run this in the project's folder") from error


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {value!r}, expected keys with values")
    return {str(key): inner for key, inner in value.items()}


def _check_presets(chosen: Any, project: Path) -> dict[str, str]:
    groups = {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted((project / CONF).iterdir())
        if folder.is_dir()
    }
    presets = {group: str(preset) for group, preset in _mapping(chosen, f"{PARAMS}: presets").items()}
    for group in groups.keys() | presets.keys():
        if group not in groups:
            raise ConfigError(f"{PARAMS}: presets.{group}: no such group; there are {', '.join(groups)}")
        if presets.get(group) not in groups[group]:
            found = f"found {presets[group]!r}" if group in presets else "is missing"
            raise ConfigError(
                f"{PARAMS}: presets.{group}: {found}, expected one of {', '.join(groups[group])} "
                f"(the files of {CONF}/{group}/)"
            )
    return presets


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop empty values, however deep."""
    kept = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if value not in (None, {})}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _select(config: Any, key: str) -> Any:
    """Return the preset's value at a dotted key; None where it has none."""
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:  # such as a section where params.yaml holds a plain value
        return None


def _explain(detail: dict[str, Any], project: Path, values: Mapping[str, Any], presets: Mapping[str, str]) -> str:
    """Turn one of pydantic's findings into `file: key: what is wrong (found …)`."""
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location) or "(the whole)"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        message = f"no such key; {'.'.join(location[:-1]) or 'the top level'} has {', '.join(known)}"
    elif detail["type"] == "string_pattern_mismatch":
        message = f"does not look like {_described(location) or detail['ctx']['pattern']}"
    found = "" if isinstance(detail["input"], dict) else f" (found {detail['input']!r})"
    return f"{_file_of(location, project, values, presets)}: {key}: {message}{found}"


def _known_keys(location: list[str]) -> list[str]:
    model: Any = Config
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _described(location: list[str]) -> str:
    model: Any = Config
    for part in location[:-1]:
        model = model.model_fields[part].annotation
    field = model.model_fields.get(location[-1]) if hasattr(model, "model_fields") else None
    return str(field.description) if field is not None and field.description else ""


def _file_of(location: list[str], project: Path, values: Mapping[str, Any], presets: Mapping[str, str]) -> str:
    """Name the file that holds a key: params.yaml, a preset or what it extends, else config.yaml."""
    if _holds(values, location):
        return str(PARAMS)
    group, preset = location[0] if location else "", presets.get(location[0] if location else "")
    while preset:
        file = CONF / group / f"{preset}.yaml"
        content = yaml.safe_load((project / file).read_text(encoding="utf-8")) or {}
        if len(location) == 1 or _holds(content, location[1:]):
            return str(file)
        parents = [parent for parent in content.get("defaults", []) if isinstance(parent, str) and parent != "_self_"]
        preset = parents[-1] if parents else None
    return str(CONF / "config.yaml")


def _holds(values: Any, location: list[str]) -> bool:
    for part in location:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return bool(location)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
