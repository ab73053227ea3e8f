"""Edits of single values in params.yaml; comments, order, blank lines and quotes stay.

The file is loaded and dumped with ruamel, as `dvc exp run -S` does: blanks that align values may go.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from runner.config.explain import not_yaml
from runner.errors import ConfigError
from runner.workspace import write_text

Key = tuple[str, str]  # section, key


def set_params(path: Path, values: Mapping[Key, str]) -> bool:
    """Set texts in params.yaml atomically; return whether the file changed. A new key becomes the first of its section.

    ConfigError if the file cannot be read, or the value's place is no scalar; the file is unchanged.
    """
    text, content = _read(path)
    changes = {key: value for key, value in values.items() if _value(content, key) != value}
    try:
        edited = _edit(text, changes) if changes else text
    except YAMLError:
        edited = None
    if edited is None:
        wanted = "; ".join(f"{'.'.join(key)}: {value}" for key, value in changes.items())
        raise ConfigError(f"{path}: cannot be edited as it is written; set by hand {wanted}")
    if changes:
        write_text(path, edited)
    return bool(changes)


def get_param(path: Path, key: Key) -> str | None:
    """Return a value's text from params.yaml; None when it is missing or empty."""
    return _value(_read(path)[1], key) or None


def _read(path: Path) -> tuple[str, object]:
    """Return the text, and its content with every scalar as text."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
        return text, yaml.load(text, Loader=yaml.BaseLoader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise not_yaml(path.parent, Path(path.name), error) from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; run this in the project's folder") from error


def _value(content: object, key: Key) -> str | None:
    for part in key:
        content = content.get(part) if isinstance(content, dict) else None
    return content if isinstance(content, str) else None


def _edit(text: str, values: Mapping[Key, str]) -> str | None:
    """Return the text with the values set; None if another value would change, or one of them is not a scalar."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n")
    lines += "" if lines.endswith("\n") or not lines else "\n"
    ruamel = YAML()
    ruamel.preserve_quotes, ruamel.width = True, 10**6
    indent = re.search(r"^ +(?=[^\s#])", lines, re.MULTILINE)
    ruamel.indent(mapping=len(indent[0]) if indent else 2)
    content = ruamel.load(lines)
    head = lines if content is None else ""
    content = CommentedMap() if content is None else content
    same = yaml.load(head + _dump(ruamel, content), Loader=yaml.BaseLoader) == yaml.load(lines, Loader=yaml.BaseLoader)
    if not isinstance(content, CommentedMap) or not same:
        return None
    for (section, key), value in values.items():
        if content.get(section) is None:
            content[section] = CommentedMap()
        keys = content[section]
        if not isinstance(keys, CommentedMap) or isinstance(keys.get(key), (dict, list)):
            return None
        if key in keys:
            keys[key] = _scalar(value)
        else:
            keys.insert(0, key, _scalar(value))
    return (head + _dump(ruamel, content)).replace("\n", line_end)


def _dump(ruamel: YAML, content: CommentedMap) -> str:
    out = io.StringIO()
    if content:
        ruamel.dump(content, out)
    return out.getvalue()


def _scalar(value: str) -> Any:
    """Return the text as a YAML scalar that YAML 1.1 readers too parse as a string; ruamel writes YAML 1.2."""
    try:
        is_plain = yaml.safe_load(value) == value
    except yaml.YAMLError:
        is_plain = False
    return value if is_plain else DoubleQuotedScalarString(value)
