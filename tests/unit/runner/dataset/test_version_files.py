"""A version of a dataset: one layout, whatever the source looked like."""

from pathlib import Path

from runner.dataset.classes import format_notes
from runner.dataset.layouts import Layout, Picture
from runner.dataset.versions import version_files


def test_version_has_the_files_of_the_layout_and_nothing_else(tmp_path: Path) -> None:
    pictures = [
        Picture("a.v2.jpg", tmp_path / "1.jpg", tmp_path / "1.txt", "train"),
        Picture("b.png", tmp_path / "2.png", None, "test"),
        Picture("c.jpg", tmp_path / "3.jpg", None, None),
    ]
    layout = Layout(["light aircraft", "größe"], pictures, {"LICENSE": tmp_path / "LICENSE"}, ["x: y"], ["z"])
    files = dict(version_files(layout))
    assert files.pop("notes.json") == format_notes(["light aircraft", "größe"])
    assert files == {
        "classes.txt": "light aircraft\ngröße\n".encode(),
        "LICENSE": tmp_path / "LICENSE",
        "images/a.v2.jpg": tmp_path / "1.jpg",
        "labels/a.v2.txt": tmp_path / "1.txt",
        "images/b.png": tmp_path / "2.png",
        "images/c.jpg": tmp_path / "3.jpg",
        "train.txt": b"images/a.v2.jpg\n",
        "test.txt": b"images/b.png\n",
    }


def test_version_has_no_lists_when_the_source_has_no_parts(tmp_path: Path) -> None:
    files = version_files(Layout(["a"], [Picture("a.jpg", tmp_path, tmp_path, None)], {}, [], []))
    assert [name for name, _ in files] == ["classes.txt", "notes.json", "images/a.jpg", "labels/a.txt"]
