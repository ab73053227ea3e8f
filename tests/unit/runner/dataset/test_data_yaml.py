from pathlib import Path

import pytest

from runner.dataset.data_yaml import find_place, read_data_yaml
from runner.errors import DatasetError


def read(folder: Path, text: str | bytes) -> tuple[list[str], str, dict[str, list[str]]]:
    path = folder / "data.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    data = read_data_yaml(path, "data.yaml")
    return data.classes, data.base, data.places


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"- a\n", b"names: [a", b"\xff\xfe", b"a: \x00", b"[" * 50_000, b"names: [a]\n#" + b" " * 10**6],
)
def test_yaml_is_refused_when_it_cannot_be_read(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(DatasetError, match=r"^data\.yaml(:\d+)?: cannot be read as YAML"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a]\ntrain: t\nnames: [b]\n", r":3: .*names is in it twice, first in line 1"),
        ("train: t\nnames:\n  0: a\n  1: b\n  0: c\n", r":5: .*0 is in it twice, first in line 3"),
        ("names: [a]\nval:\tv\n\ttrain: t\n", r":2: .*cannot start any token"),
        (b"train: t\nnames: [M\xf6we]\n", r":2: not UTF-8 text .*save it as UTF-8"),
    ],
)
def test_yaml_is_refused_with_the_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=f"^data\\.yaml{message}"):
        read(tmp_path, text)


def test_yaml_is_read_in_utf16_with_any_line_ends(tmp_path: Path) -> None:
    text = "names: [größe]\r\ntrain: t\r\n"
    assert read(tmp_path, text.encode("utf-16")) == read(tmp_path, text) == (["größe"], "", {"train": ["t"]})


def test_names_may_be_a_list_or_numbered(tmp_path: Path) -> None:
    expected = ["light aircraft", "no", "1", "null"]
    assert read(tmp_path, "names: [light aircraft, no, 1, null]\nnc: 4\n")[0] == expected
    assert read(tmp_path, "names:\n- light aircraft\n- no\n- 1\n- null\n")[0] == expected
    assert read(tmp_path, "names:\n  3: null\n  0: light aircraft\n  1: no\n  2: 1\n")[0] == expected
    assert read(tmp_path, "\ufeffnames: {'0': light aircraft, '1': no, '2': 1, '3': 'null'}\r\n")[0] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: a\n", "names is missing"),
        ("names:\n", "names is missing"),
        ("names: []\n", "no classes"),
        ("names: cat\n", "names is 'cat'"),
        ("names: [[a]]\n", r"names is \[\['a'\]\]"),
        ("names: {1: a, 2: b}\n", r"names has the ids 1, 2"),
        ("names: {a: b}\n", r"names has the ids a"),
        ("names: [a, '']\n", "class 1: blank"),
        ("names: [a, a]\n", "class 1: a is class 0"),
        ("names: [a]\nnc: 2\n", "nc is 2, but names lists 1 classes"),
        ("names: [a]\nkpt_shape: 17\n", "kpt_shape is '17', expected"),
        ("names: [a]\nkpt_shape: [17, 4]\n", "kpt_shape is .* expected"),
        ("names: [a]\ntrain: {a: b}\n", r"train is \{'a': 'b'\}"),
    ],
)
def test_yaml_is_refused_when_it_is_unclear(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"^data\.yaml: {message}"):
        read(tmp_path, text)


def test_places_are_read_by_part_whatever_the_key(tmp_path: Path) -> None:
    text = "names: [a]\npath: /x\nTrain: t\nvalid: [v, w]\nval: u\ntest:  # (optional)\nminival: m\n"
    assert read(tmp_path, text)[1:] == ("/x", {"train": ["t"], "val": ["v", "w", "u"], "test": []})


@pytest.mark.parametrize(
    ("shape", "columns"),
    [("", None), ("kpt_shape: [17, 3]", 51), ("kpt_shape:\n- 2\n- 2", 4), ("kpt_shape: [0, 0]", 0)],
)
def test_columns_of_keypoints_are_read(tmp_path: Path, shape: str, columns: int | None) -> None:
    (tmp_path / "data.yaml").write_text(f"names: [a]\n{shape}\n")
    assert read_data_yaml(tmp_path / "data.yaml", "data.yaml").keypoints == columns


KNOWN = {"", "images", "images/train", "images/train/a.jpg", "train", "train/images", "top", "top/valid", "train.txt"}


@pytest.mark.parametrize(
    ("place", "bases", "found"),
    [
        ("", [""], None),
        (" ", [""], None),
        (".", [""], ""),
        ("./", ["top"], "top"),
        ("images/train", [""], "images/train"),
        ("./images/train/", [""], "images/train"),
        ("../train/images", [""], "train/images"),
        ("../../train/images", ["top"], None),
        ("../train/images", ["top"], "train/images"),
        ("valid", ["top", ""], "top/valid"),
        ("train", ["top", ""], "train"),
        ("/home/me/data/images/train", [""], "images/train"),
        ("C:\\data\\images\\train", [""], "images/train"),
        ("..\\train\\images", [""], "train/images"),
        ("data/images/train/a.jpg", [""], "images/train/a.jpg"),
        ("../test/images", [""], None),
        ("images/../../../etc/passwd", [""], None),
        ("/etc/passwd", [""], None),
        ("https://example.org/train.zip", [""], None),
    ],
)
def test_place_is_found_among_the_files_of_the_dataset_only(place: str, bases: list[str], found: str | None) -> None:
    assert find_place(place, bases, KNOWN) == found
