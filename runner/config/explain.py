"""Error messages of an invalid configuration: file, key, value found, values allowed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner.config.schema import Config
from runner.errors import ConfigError
from runner.workspace import CONF, LOCK, PARAMS


@dataclass(frozen=True)
class Refusals:
    """Finds the file that sets a key, and turns pydantic's errors into messages."""

    project: Path
    values: Mapping[str, Any]  # of params.yaml, without presets and empty values
    presets: Mapping[str, str]  # group → its chosen preset

    def explain(self, detail: Mapping[str, Any]) -> str:
        """Turn one pydantic error into `file: key: found …, expected …`."""
        location = [part for part in detail["loc"] if isinstance(part, str)]  # without list indices
        where, value = f"{self.file_of(location)}: {'.'.join(location)}", detail["input"]
        message = str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
        if detail["type"] == "missing":
            return f"{where}: is missing; give it a value"
        if detail["type"] == "extra_forbidden":
            section = ".".join(location[:-1]) or "the top level"
            return f"{where}: no such key; {section} has {', '.join(_keys(location[:-1]))}"
        if value is None:
            return f"{where}: is empty here, so {PARAMS} must give it a value"
        if detail["type"] == "model_type":
            return f"{where}: found {value!r}, expected keys ({', '.join(_keys(location))})"
        if isinstance(value, Mapping) and detail["type"] == "value_error":  # a check over several keys of a section
            return f"{where}: {message}"
        return f"{where}: found {value!r}, {message}"

    def file_of(self, location: list[str]) -> Path:
        """Return the file that sets a key: params.yaml, a preset or its parent, else config.yaml."""
        if _holds(self.values, location):
            return PARAMS
        last = CONF / "config.yaml"  # overrides the presets
        whole_section = len(location) == 1
        if (group := location[0]) not in self.presets or (not whole_section and _holds(self._content(last), location)):
            return last
        chosen = preset = CONF / group / f"{self.presets[group]}.yaml"
        while True:
            content = self._content(preset)
            if _holds(content, location[1:]):
                return preset
            parents = [name for name in content.get("defaults", []) if isinstance(name, str) and name != "_self_"]
            if not parents:
                return chosen
            preset = CONF / group / f"{parents[-1]}.yaml"

    def _content(self, file: Path) -> Any:
        content = yaml.safe_load((self.project / file).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}


def not_yaml(project: Path, file: Path, error: Exception) -> ConfigError:
    """Return the error for a file of the project that is not YAML, with the line; a merge's conflict is named."""
    text = (project / file).read_text(encoding="utf-8", errors="replace")
    if marker := re.search("^<{7} .*", text, re.MULTILINE):
        line = text.count("\n", 0, marker.start()) + 1
        remedy = "keep one of the two texts, remove the lines of <<<<<<<, ======= and >>>>>>>, then `git add` it"
        if file == LOCK:  # the results of both sides are in the run cache
            remedy = (
                f"`git checkout --ours {LOCK}` keeps one side (once committed: remove the file), then `dvc repro` "
                "brings it up to date"
            )
        return ConfigError(f"{file}:{line}: a merge left a conflict here ({marker[0]}); {remedy}")
    mark = getattr(error, "problem_mark", None)
    where = f"{file}:{mark.line + 1}" if mark else f"{file}"
    return ConfigError(f"{where}: not YAML: {first_line(getattr(error, 'problem', None) or error)}")


def first_line(error: object) -> str:
    """Return the first line of an error's text, or its type when the text is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _keys(location: list[str]) -> list[str]:
    model: Any = Config
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _holds(values: object, location: list[str]) -> bool:
    for part in location:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return bool(location)
