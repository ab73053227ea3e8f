"""Ultralytics' data.yaml: the class names, and where each part's pictures stand.

What exporters write into it rarely fits where the files are: Roboflow names `../train/images` beside `train/images`,
others an absolute path of the machine that exported. So a place is looked up among the files that are really there,
first as written, then without what leads out of the dataset; nothing outside of it can be reached.
Format: https://docs.ultralytics.com/datasets/detect/ (names, nc, path, train, val, test).
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath

import yaml

from runner.dataset.classes import check_classes
from runner.errors import DatasetError

MAX_BYTES = 1_000_000
PART_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class DataYaml:
    """What data.yaml says.

    Args:
        classes: class names in id order.
        base: the folder that places are relative to, as written; empty: the one that data.yaml stands in.
        places: part (train, val or test) → folders or lists of pictures, as written.
    """

    classes: list[str]
    base: str
    places: dict[str, list[str]]


def read_data_yaml(path: Path, where: str) -> DataYaml:
    """Read data.yaml; `names` may be a list or id: name, a part may be one place or several.

    Args:
        path: the file.
        where: its name for the messages.
    Raises:
        DatasetError: not YAML, no or unclear `names`, or `nc` that counts otherwise.
    """
    content = load_mapping(path)
    if content is None:
        raise DatasetError(f"{where}: cannot be read as YAML, expected names, train and val as Ultralytics writes them")
    classes = check_classes(_names(content.get("names"), where), where)
    count = content.get("nc", str(len(classes)))
    if count != str(len(classes)):
        raise DatasetError(f"{where}: nc is {count}, but names lists {len(classes)} classes; expected the same number")
    places: dict[str, list[str]] = {}
    for key, value in content.items():
        part = PART_KEYS.get(str(key).lower())
        if part:
            found = value if isinstance(value, list) else [value]
            texts = [place for place in found if isinstance(place, str)]
            if len(texts) < len(found):
                raise DatasetError(f"{where}: {key} is {value!r}, expected a folder or list of pictures, or several")
            places.setdefault(part, []).extend(filter(None, texts))
    base = content.get("path")
    return DataYaml(classes, base if isinstance(base, str) else "", places)


def load_mapping(path: Path) -> dict[str, object] | None:
    """Return a YAML file's top level, every scalar as the text that was written; None where there is no such thing."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        # BaseLoader: neither objects nor guesses, so a class called `no`, `1` or `null` stays what it is
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def find_place(place: str, bases: list[str], known: Container[str]) -> str | None:
    """Return which of the `known` paths a place means; None when it means none of them.

    Args:
        place: a path as written: relative, absolute, with `..`, or of another machine.
        bases: folders of the dataset that it may be relative to, in order.
        known: the files and folders that exist, relative to the dataset, with `/`; the empty text is the dataset.
    """
    written = re.sub(r"^[A-Za-z]:", "/", place.strip().replace("\\", "/"))
    if not written:
        return None
    return next((path for path in _readings(written, bases) if path in known), None)


def _readings(written: str, bases: list[str]) -> Iterator[str]:
    """Give each way to read a place, the likeliest first."""
    if not written.startswith("/"):
        yield from (_joined(base, written) for base in bases)
    parts = [part for part in normpath(written).split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        if start == 0 or parts[start:] != ["images"]:  # a missing test/images does not mean the images of all parts
            yield from (_joined(base, "/".join(parts[start:])) for base in bases)


def _joined(base: str, path: str) -> str:
    joined = normpath(f"./{base}/{path}")
    return "" if joined == "." else joined


def _names(names: object, where: str) -> list[str]:
    if names in (None, ""):
        raise DatasetError(f"{where}: names is missing, expected a list of class names, or id: name")
    if isinstance(names, dict):
        try:
            by_id = {int(key): name for key, name in names.items()}
        except (ValueError, TypeError):
            by_id = {}
        if sorted(by_id) != list(range(len(names))):
            raise DatasetError(
                f"{where}: names has the ids {', '.join(map(str, names))}, expected 0, 1, 2 … without gaps"
            )
        names = [by_id[number] for number in range(len(by_id))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{where}: names is {names!r}, expected a list of class names, or id: name")
    return [str(name) for name in names]
