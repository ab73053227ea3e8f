"""Compose the presets of conf/ with params.yaml on top, validate the result, write one file per stage.

`dvc repro` does not compose Hydra's configuration, so this is a stage of its own: it runs when params.yaml, conf/ or
the schema changed, and later stages run only when their composed file changed.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from runner.config.explain import Refusals, first_line, not_yaml
from runner.config.references import EXPECTED, has_resolver, no_resolvers, refuse_resolvers, refuse_resolvers_in_presets
from runner.config.schema import COMPOSED, Composed, Config, stage_values
from runner.errors import ConfigError
from runner.workspace import CONF, PARAMS, write_text

Values = dict[str, Any]


def compose(project: Path, params: Values | None = None) -> Composed:
    """Return the valid configuration, and (key, preset's value, other value of params.yaml); ConfigError if invalid.

    `params` stands for params.yaml, where an empty value keeps the preset's; None: read the file.
    """
    sections = dict(_read_params(project) if params is None else params)
    presets = _check_presets(sections.pop("presets", None), project)
    weights = _check_weights(sections.pop("weights", None))
    values = _without_empty(sections)
    for section, key in (("dataset", "classes"), ("gate", "renamed")):
        if isinstance(own := sections.get(section), dict) and isinstance(names := own.get(key), dict):
            values.setdefault(section, {})[key] = names  # where an empty value is an order: the class is gone
    base = _compose_presets(presets, project)
    of_presets = dict(leaves(base))
    hidden = [(key, old, new) for key, new in leaves(values) if (old := of_presets.get(key)) not in (None, new)]
    refusals = Refusals(project, values, presets)
    whole = _merge(base, values)
    for key, value in leaves(whole):
        if has_resolver(value):
            raise ConfigError(f"{refusals.file_of(key.split('.'))}: {key}: found {value!r}, {EXPECTED}")
    try:
        merged: Any = OmegaConf.to_container(OmegaConf.create(whole), resolve=True)
    except OmegaConfBaseException as error:
        key = error.full_key or "(the whole)"
        raise ConfigError(f"{refusals.file_of(key.split('.'))}: {key}: {first_line(error)}") from error
    if isinstance(model := merged.get("model"), dict) and (sha256 := weights.get(str(model.get("base")))):
        model["sha256"] = sha256
    try:
        return Config.model_validate(merged), hidden
    except ValidationError as error:
        raise ConfigError("\n".join(refusals.explain(dict(detail)) for detail in error.errors())) from error


def compose_before_dataset(project: Path) -> Composed:
    """Return what `compose` does, but of the sample, so even where params.yaml names no dataset yet."""
    params = {key: value for key, value in _read_params(project).items() if key != "dataset"}
    presets = _mapping(params.get("presets"), f"{PARAMS}: presets")
    return compose(project, params | {"presets": presets | {"dataset": "sample"}})


def write_stage_files(config: Config, folder: Path) -> None:
    """Write `<stage>.yaml` for every stage, and gate.yaml, into `folder`, each atomically."""
    for stage in COMPOSED:
        write_text(folder / f"{stage}.yaml", stage_text(config, stage))


def stage_text(config: Config, stage: str) -> str:
    """Return the content of `<stage>.yaml`."""
    return yaml.safe_dump(stage_values(config, stage), allow_unicode=True, sort_keys=False)


def _read_params(project: Path) -> Values:
    refuse_resolvers(project / PARAMS, PARAMS)
    try:  # YAML 1.2, as DVC reads it
        return _mapping(YAML(typ="safe", pure=True).load((project / PARAMS).read_text(encoding="utf-8")), str(PARAMS))
    except (YAMLError, UnicodeDecodeError) as error:
        raise not_yaml(project, PARAMS, error) from error
    except OSError as error:
        raise ConfigError(f"{PARAMS}: {error.strerror}; run this in the project's folder") from error


def _mapping(value: object, where: str) -> Values:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {value!r}, expected keys with values")
    return {str(key): inner for key, inner in value.items()}


def _check_weights(added: object) -> dict[str, str]:
    weights = _mapping(added, f"{PARAMS}: weights")
    for name, sha256 in weights.items():
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ConfigError(
                f"{PARAMS}: weights.{name}: found {sha256!r}, expected 64 hexadecimal digits; "
                f"`python -m runner weights add {name}` writes them"
            )
    return weights


def _check_presets(chosen: object, project: Path) -> dict[str, str]:
    if not (project / CONF).is_dir():
        raise ConfigError(f"{CONF}/: no such folder; run this in the project's folder")
    groups = {group: [file.stem for file in files] for group, files in _preset_files(project).items()}
    if chosen is None:
        raise ConfigError(f"{PARAMS}: presets: is missing, expected a preset of each of {', '.join(groups)}")
    presets = {group: str(preset) for group, preset in _mapping(chosen, f"{PARAMS}: presets").items()}
    for group in sorted(groups.keys() | presets.keys()):
        if group not in groups:
            raise ConfigError(f"{PARAMS}: presets.{group}: no such group; there are {', '.join(groups)}")
        if presets.get(group) not in groups[group]:
            found = f"found {presets[group]!r}" if group in presets else "is missing"
            raise ConfigError(
                f"{PARAMS}: presets.{group}: {found}, expected one of {', '.join(groups[group])} "
                f"(the files of {CONF}/{group}/)"
            )
        if has_resolver(presets[group]):  # Hydra would resolve it
            raise ConfigError(f"{PARAMS}: presets.{group}: found {presets[group]!r}, {EXPECTED}; rename the file")
    return presets


def _preset_files(project: Path) -> dict[str, list[Path]]:
    """Return the presets of each group; other folders, and hidden files, are of editors and tools."""
    return {
        folder.name: sorted(folder.glob("[!.]*.yaml"))
        for folder in sorted((project / CONF).iterdir())
        if folder.is_dir() and folder.name in Config.model_fields
    }


def _compose_presets(presets: Mapping[str, str], project: Path) -> Values:
    """Return the values of the chosen presets, interpolations not yet resolved."""
    refuse_resolvers_in_presets(project)
    try:
        with initialize_config_dir(str((project / CONF).resolve()), version_base="1.3"):
            overrides = [f'{group}="{preset}"' for group, preset in presets.items()]
            with no_resolvers():
                base = OmegaConf.to_container(hydra_compose("config", overrides=overrides))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        _refuse_broken_presets(project)
        raise ConfigError(f"{CONF}/: {first_line(error)}") from error
    assert isinstance(base, dict)
    return {str(key): value for key, value in base.items()}


def _refuse_broken_presets(project: Path) -> None:
    for file in (project / CONF / "config.yaml", *chain.from_iterable(_preset_files(project).values())):
        try:
            yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise not_yaml(project, file.relative_to(project), error) from error


def _without_empty(values: Values) -> Values:
    kept = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if value not in (None, {})}


def _merge(base: Values, values: Values) -> Values:
    """Return `base` overridden by `values`, section by section; the schema rejects wrong types later."""
    merged = dict(base)
    for key, value in values.items():
        old = base.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def leaves(values: Values, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield each dotted key with its value, depth first; an empty section yields nothing."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
