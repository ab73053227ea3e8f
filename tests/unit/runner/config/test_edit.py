from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from runner.config.edit import Key, get_param, set_params
from runner.errors import ConfigError

URL = "store:datasets/planes/0123456789ab.zip"
PARAMS = """\
# Training parameters.

presets:
  dataset: sample         # sample | store
  model: 'yolo11n'

dataset:                  # the data
  name:                   # [-] folder
  url: sample             # [-] sample | store:…

  sha256:
# train
train: {epochs: 3}
weights:                  # digests
"""
EDITED = """\
# Training parameters.

presets:
  dataset: store          # sample | store
  model: 'yolo11s'

dataset:                  # the data
  name: planes            # [-] folder
  url: store:datasets/planes/0123456789ab.zip # [-] sample | store:…

  sha256: 0123456789ab
# train
train: {epochs: "4"}
weights:                  # digests
  yolo11n.pt: abc
"""
UNCHANGED = PARAMS.replace("url: sample", f"url: '{URL}'")
VALUES: dict[Key, str] = {
    ("presets", "dataset"): "store",
    ("presets", "model"): "yolo11s",
    ("dataset", "name"): "planes",
    ("dataset", "url"): URL,
    ("dataset", "sha256"): "0123456789ab",
    ("train", "epochs"): "4",
    ("weights", "yolo11n.pt"): "abc",
}


def edit(folder: Path, text: str, values: dict[Key, str]) -> str:
    path = folder / "params.yaml"
    path.write_bytes(text.encode())
    changed = set_params(path, values)
    result = path.read_bytes().decode()
    assert changed == (result != text)
    assert all(get_param(path, key) == value for key, value in values.items())
    assert [entry.name for entry in folder.iterdir()] == ["params.yaml"]
    return result


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("", {("a", "k"): "v"}, "a:\n  k: v\n"),
        ("# nothing yet", {("a", "k"): "v"}, "# nothing yet\na:\n  k: v\n"),
        (PARAMS, VALUES, EDITED),
        (PARAMS.replace("\n", "\r\n"), VALUES, EDITED.replace("\n", "\r\n")),
        (UNCHANGED, {("dataset", "url"): URL, ("presets", "dataset"): "sample"}, UNCHANGED),
        (
            "a:   # one\n    # two\n    u: x # three\n    # four\n\nb: 1",
            {("a", "k"): "v"},
            "a:   # one\n    # two\n    k: v\n    u: x # three\n    # four\n\nb: 1\n",
        ),
        ("a:\nb: 1\n", {("a", "k"): "v"}, "a:\n  k: v\nb: 1\n"),
        ("a:  # note", {("a", "k"): "v"}, "a:  # note\n  k: v\n"),
        ("c: 1\r\na:\n", {("a", "k"): "v"}, "c: 1\r\na:\r\n  k: v\r\n"),
        ("a:\n  b:   1  # one\n", {("a", "k"): "v"}, "a:\n  k: v\n  b: 1    # one\n"),
        ("c:\n    d: 1\na:\n  b: 1\n", {("a", "k"): "v"}, "c:\n    d: 1\na:\n    k: v\n    b: 1\n"),
    ],
    ids=[
        *("empty", "comment", "all", "Windows", "unchanged", "first of its section", "empty section", "no line end"),
        *("mixed line ends", "blanks that align", "mixed indents"),
    ],
)
def test_only_the_values_change(tmp_path: Path, text: str, values: dict[Key, str], expected: str) -> None:
    assert edit(tmp_path, text, values) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("no", "1e5", "12", "1_000", "0x1f", "0o17", "null", "~", "a: b", "a #b", "größe", "2026-01-01", "[", "1:30"),
        *("0123456789e1", "012345678901", "1.5e3", "000000000000", ".5", "1e999"),  # digests are digits too
    ],
)
def test_value_stays_a_text_for_every_reader(tmp_path: Path, value: str) -> None:
    text = edit(tmp_path, "a:\n  b: x\n", {("a", "b"): value})
    assert yaml.safe_load(text)["a"]["b"] == YAML(typ="safe", pure=True).load(text)["a"]["b"] == value


@pytest.mark.parametrize(
    "text",
    [
        *(None, "a: [", "- 1\n", "a: 1\n", "a: [1]\n", "a:\n  k: [1]\n", "a:\n  k: {b: 1}\n"),
        *("a:\n  b: 1\n  b: 2\n", "a: &x {b: 1}\nc: *y\n"),
    ],
)
def test_file_stays_when_it_cannot_be_edited(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml.*: (No such file|.*not YAML|cannot be edited .* a\.k: v$)"):
        set_params(path, {("a", "k"): "v"})
    assert (path.read_text() if path.exists() else None) == text
