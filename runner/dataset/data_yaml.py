"""data.yaml of Ultralytics: the class names, the picture folders of each part, and the shape of keypoints.

Exporters often write paths that do not fit: Roboflow names `../train/images` beside `train/images`, others an absolute
path of the exporting machine. So a path is matched against the files that exist, first as written, then without the
leading folders; it cannot leave the dataset.
Format: https://docs.ultralytics.com/datasets/detect/ (names, nc, path, train, val, test), and of pose (kpt_shape).
"""

import re
from collections.abc import Container, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

import yaml

from runner.dataset.classes import check_classes
from runner.dataset.labels import decode_lines, not_utf8
from runner.errors import DatasetError

MAX_BYTES = 1_000_000
_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)
_OTHER_KEYS = {
    "path",
    "names",
    "nc",
    "kpt_shape",
    "flip_idx",
    "kpt_names",
    "channels",
    "download",
    "yaml_file",
    "minival",
}
PART_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class DataYaml:
    """Content of data.yaml."""

    classes: list[str]  # in id order
    base: str  # folder that places are relative to, as written; empty: the folder of data.yaml
    places: dict[str, list[str]]  # part (train, val or test) → folders or lists of pictures, as written
    others: dict[str, str]  # key that is no part → text, which may be such a folder or list all the same
    keypoints: int | None  # columns of a label line that are keypoints; None: it does not say


def read_data_yaml(path: Path, where: str) -> DataYaml:
    """Read data.yaml; `names` may be a list or id: name, a part may have one place or several.

    DatasetError if it is not YAML, `names` is missing or unclear, or `nc` differs from their number.
    """
    try:
        content = _load(path)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}{not_utf8(error)}, expected YAML; save it as UTF-8") from error
    except _UNREADABLE as error:
        line, reason = "", f" ({error})" if type(error) is ValueError else ""
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            line, reason = f":{error.problem_mark.line + 1}", f" ({error.problem})"
        raise DatasetError(
            f"{where}{line}: cannot be read as YAML{reason}, expected names, train and val as Ultralytics writes them"
        ) from error
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
    keypoints = _keypoints(content.get("kpt_shape"), where)
    known = PART_KEYS.keys() | _OTHER_KEYS
    others = {key: text for key, text in content.items() if isinstance(text, str) and key.lower() not in known}
    return DataYaml(classes, base if isinstance(base, str) else "", places, others, keypoints)


def load_mapping(path: Path) -> dict[str, object] | None:
    """Return the top-level mapping of a YAML file with every scalar as text; None if there is none."""
    try:
        return _load(path)
    except _UNREADABLE:
        return None


def _load(path: Path) -> dict[str, object]:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    content = yaml.load("\n".join(decode_lines(path.read_bytes())), Loader=_Loader)
    if not isinstance(content, dict):
        raise ValueError("no mapping")
    return content


class _Loader(yaml.BaseLoader):
    """No objects, no type guessing, so a class called `no`, `1` or `null` stays text; no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if (other := first.setdefault(str(key.value), key)) is not key:
                said = f"{key.value} is in it twice, first in line {other.start_mark.line + 1}"
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
        return super().construct_mapping(node, deep)


def find_place(place: str, bases: list[str], known: Container[str]) -> str | None:
    """Return the path in `known` that a place refers to; None if there is none.

    Args:
        place: path as written: relative, absolute, with `..`, or of another machine.
        bases: folders of the dataset that it may be relative to, in order.
        known: existing files and folders, relative to the dataset, with `/`; the empty text is the dataset.
    """
    written = re.sub(r"^[A-Za-z]:", "/", place.strip().replace("\\", "/"))
    if not written:
        return None
    return next((path for path in _readings(written, bases) if path in known), None)


def _readings(written: str, bases: list[str]) -> Iterator[str]:
    """Yield the candidate paths of a place, the likeliest first."""
    if not written.startswith("/"):
        yield from (_joined(base, written) for base in bases)
    parts = [part for part in normpath(written).split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        if start == 0 or parts[start:] != ["images"]:  # a missing test/images must not match the images/ of all parts
            yield from (_joined(base, "/".join(parts[start:])) for base in bases)


def _joined(base: str, path: str) -> str:
    joined = normpath(f"./{base}/{path}")
    return "" if joined == "." else joined


def _keypoints(shape: object, where: str) -> int | None:
    if shape is None:
        return None
    try:
        points, numbers = map(int, shape if isinstance(shape, list) else [])
    except ValueError:
        points, numbers = -1, 0
    if points < 0 or (points and numbers not in (2, 3)):
        raise DatasetError(f"{where}: kpt_shape is {shape!r}, expected [keypoints, 2 or 3], such as [17, 3]")
    return points * numbers


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
