"""Edits of params.yaml: the value changes, and nothing else of the file."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from runner.config.edit import Key, get_param, set_params
from runner.errors import ConfigError

URL = "store:datasets/planes/0123456789ab.zip"


def edit(folder: Path, text: str, values: dict[Key, str]) -> str:
    path = folder / "params.yaml"
    path.write_bytes(text.encode())
    changed = set_params(path, values)
    result = path.read_bytes().decode()
    assert changed == (result != text)
    assert all(get_param(path, key) == value for key, value in values.items())
    assert [entry.name for entry in folder.iterdir()] == ["params.yaml"]
    return result


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "# nothing yet"])
def test_section_is_added_when_the_file_is_empty(tmp_path: Path, text: str) -> None:
    added = f"dataset:\n  url: {URL}\n"
    assert edit(tmp_path, text, {("dataset", "url"): URL}) == text + ("\n" if text[-1:] == "t" else "") + added


PARAMS = """\
# Everything that a retrain needs.

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


def test_only_the_values_change(tmp_path: Path) -> None:
    values: dict[Key, str] = {
        ("presets", "dataset"): "store",
        ("presets", "model"): "yolo11s",
        ("dataset", "name"): "planes",
        ("dataset", "url"): URL,
        ("dataset", "sha256"): "0123456789ab",
        ("train", "epochs"): "4",
        ("weights", "yolo11n.pt"): "abc",
    }
    assert (
        edit(tmp_path, PARAMS, values)
        == """\
# Everything that a retrain needs.

presets:
  dataset: store          # sample | store
  model: yolo11s

dataset:                  # the data
  name: planes            # [-] folder
  url: store:datasets/planes/0123456789ab.zip # [-] sample | store:…

  sha256: 0123456789ab
# train
train: {epochs: "4"}
weights:                  # digests
  yolo11n.pt: abc
"""
    )


def test_nothing_changes_when_the_values_are_there(tmp_path: Path) -> None:
    text = PARAMS.replace("url: sample", f"url: '{URL}'")
    assert edit(tmp_path, text, {("dataset", "url"): URL, ("presets", "dataset"): "sample"}) == text


def test_missing_key_becomes_the_first_of_its_section(tmp_path: Path) -> None:
    text = "dataset:   # the data\n    # what\n    url: sample # which\n    # end\n\n# train\ntrain:\n  a: 1"
    assert edit(tmp_path, text, {("dataset", "name"): "planes"}) == text.replace("url:", "name: planes\n    url:")


def test_section_without_keys_takes_one(tmp_path: Path) -> None:
    assert edit(tmp_path, "a:\nb: 1\n", {("a", "k"): "v"}) == "a:\n  k: v\nb: 1\n"
    assert edit(tmp_path, "a:  # note", {("a", "k"): "v"}) == "a:  # note\n  k: v\n"
    assert edit(tmp_path, "a:  # note\n# end\nb: 1", {("a", "k"): "v"}) == "a:  # note\n  k: v\n# end\nb: 1"


def test_windows_line_ends_stay(tmp_path: Path) -> None:
    values = {("dataset", "url"): URL, ("dataset", "name"): "planes", ("weights", "a.pt"): "b", ("new", "c"): "d"}
    result = edit(tmp_path, PARAMS.replace("\n", "\r\n"), values)
    assert result.count("\n") == result.count("\r\n") == PARAMS.count("\n") + 3


@pytest.mark.parametrize(
    "value", ["no", "1e5", "12", "1_000", "0x1f", "null", "~", "a: b", "a #b", "", "größe", "2026-01-01"]
)
def test_value_stays_a_text_for_every_reader(tmp_path: Path, value: str) -> None:
    text = edit(tmp_path, "a:\n  b: 1\n", {("a", "b"): value} if value else {("a", "b"): "x"})
    expected = value or "x"
    assert yaml.safe_load(text)["a"]["b"] == YAML(typ="safe", pure=True).load(text)["a"]["b"] == expected


@given(value=st.text("0123456789abcdefe", min_size=1, max_size=12))
def test_digest_stays_a_text_for_every_reader(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    text = edit(tmp_path_factory.mktemp("params"), "a:\n  b:\n", {("a", "b"): value})
    assert yaml.safe_load(text)["a"]["b"] == YAML(typ="safe", pure=True).load(text)["a"]["b"] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"params\.yaml: not YAML \(.*\); mend it, then run this again$"),
        ("a: 1\n", r"params\.yaml: cannot be edited as it is written; set by hand a\.k: v$"),
        ("a: [1]\n", r"params\.yaml: cannot be edited as it is written; set by hand a\.k: v$"),
        ("a: {}\n", r"params\.yaml: cannot be edited as it is written; set by hand a\.k: v$"),
        ("a:\n  k: [1]\n", r"params\.yaml: cannot be edited as it is written; set by hand a\.k: v$"),
        ("- 1\n", r"params\.yaml: not YAML"),
    ],
)
def test_file_stays_when_it_cannot_be_edited(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        set_params(tmp_path / "params.yaml", {("a", "k"): "v"})
    assert (tmp_path / "params.yaml").read_text() == text


def test_error_names_the_file_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: cannot be read \(.*\); run this in the project's folder$"):
        set_params(tmp_path / "params.yaml", {("a", "k"): "v"})
    with pytest.raises(ConfigError, match=r"params\.yaml: cannot be read \("):
        get_param(tmp_path / "params.yaml", ("a", "k"))


def test_the_projects_own_file_can_be_edited(project: Path, tmp_path: Path) -> None:
    text = (project / "params.yaml").read_text(encoding="utf-8")
    digest = "0123456789abcdef" * 4
    values: dict[Key, str] = {
        ("dataset", "url"): URL,
        ("dataset", "name"): "x",
        ("dataset", "sha256"): digest,
        ("weights", "a.pt"): digest,
    }
    result = edit(tmp_path, text, values | {("presets", "dataset"): "store"})
    assert len(result.splitlines()) == len(text.splitlines()) + 1
