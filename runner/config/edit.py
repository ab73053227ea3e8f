"""Edits of single values in params.yaml that leave the rest of the file, which people also edit, unchanged.

The value's text is replaced in place, so comments, order, quotes and line ends stay byte for byte, which no YAML writer
guarantees. A missing key becomes the first of its section.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from runner.errors import ConfigError
from runner.workspace import write_text

Key = tuple[str, str]  # section, key
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*[A-Za-z0-9]|[A-Za-z]")
_NUMBER = re.compile(r"[0-9._]+(e[-+]?[0-9]+)?", re.IGNORECASE)  # a number to at least one YAML reader


def set_params(path: Path, values: Mapping[Key, str]) -> bool:
    """Set values in params.yaml atomically; return whether the file changed.

    Args:
        values: (section, key) → text.
    Raises:
        ConfigError: the file cannot be read, or its YAML style cannot be edited; the file is unchanged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            before = text = file.read()
        for key, value in values.items():
            text = _set(text, key, value)
        after = yaml.load(text, Loader=yaml.BaseLoader)
        kept = all(_value(after, key) == value for key, value in values.items())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); run this in the project's folder") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())}); mend it, then run this again") from error
    if not kept:
        wanted = "; ".join(f"{'.'.join(key)}: {value}" for key, value in values.items())
        raise ConfigError(f"{path}: cannot be edited as it is written; set by hand {wanted}")
    if text != before:
        write_text(path, text)
    return text != before


def get_param(path: Path, key: Key) -> str | None:
    """Return a value's text from params.yaml; None when it is missing or empty."""
    try:
        return _value(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader), key) or None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def _value(content: object, key: Key) -> str | None:
    for part in key:
        content = content.get(part) if isinstance(content, dict) else None
    return content if isinstance(content, str) else None


def _set(text: str, key: Key, value: str) -> str:
    """Set one value; return the text unchanged when its YAML style cannot be edited."""
    section = _child(yaml.compose(text, Loader=yaml.BaseLoader), key[0])
    if section is None:
        line_end = "\r\n" if "\r\n" in text else "\n"
        gap = "" if not text or text.endswith("\n") else line_end
        return f"{text}{gap}{key[0]}:{line_end}  {key[1]}: {_scalar(value)}{line_end}"
    found = _child(section, key[1])
    if found is not None:
        return _replace(text, found, value)
    if isinstance(section, yaml.MappingNode) and section.value and not section.flow_style:
        first = section.value[0][0].start_mark
        return _insert(text, first.index, f"{key[1]}: {_scalar(value)}", " " * first.column)
    if isinstance(section, yaml.ScalarNode) and not section.value:
        end = text.find("\n", section.end_mark.index)
        end = len(text) if end < 0 else end + 1
        before = text[:end] if text[:end].endswith("\n") else f"{text[:end]}\n"
        line_end = "\r\n" if before.endswith("\r\n") else "\n"
        return f"{before}  {key[1]}: {_scalar(value)}{line_end}{text[end:]}"
    return text


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _replace(text: str, node: yaml.Node, value: str) -> str:
    """Replace a value; a comment after it keeps its column if there is room."""
    start, end = node.start_mark.index, node.end_mark.index
    if not isinstance(node, yaml.ScalarNode) or node.value == value:
        return text
    new = _scalar(value) if text[start - 1 : start].isspace() else f" {_scalar(value)}"
    rest = text[end:]
    if comment := re.match(r"( +)#", rest):
        room = len(comment[1]) + (end - start) - len(new)
        rest = " " * max(room, 1) + rest[len(comment[1]) :]
    return text[:start] + new + rest


def _insert(text: str, index: int, line: str, indent: str) -> str:
    """Insert a line before the one whose first key is at `index`."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    return f"{text[:index]}{line}{line_end}{indent}{text[index:]}"


def _scalar(value: str) -> str:
    """Return the text as a YAML scalar that every reader parses as a string."""
    plain = _PLAIN.fullmatch(value) and not _NUMBER.fullmatch(value)
    return value if plain and yaml.safe_load(value) == value else json.dumps(value, ensure_ascii=False)
