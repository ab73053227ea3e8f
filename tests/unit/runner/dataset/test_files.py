import os
from pathlib import Path

import pytest

from runner.dataset.files import label_places, list_files
from tests.support.trees import write_tree


def test_files_and_their_folders_are_known(tmp_path: Path) -> None:
    assert list_files(tmp_path).known == set()
    (tmp_path / "a" / "empty").mkdir(parents=True)
    write_tree(tmp_path, {"a/b/c.jpg": b""})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dead.jpg").symlink_to("nowhere")
    files = list_files(tmp_path)
    (tmp_path / "a" / "inside.jpg").symlink_to("b/c.jpg")
    (tmp_path / "b").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "a" / "b" / "up").symlink_to("../../b")
    files = list_files(tmp_path)
    assert files.files == ["a/b/c.jpg", "a/inside.jpg", "b/c.jpg"]
    assert files.known == {"", "a", "a/b", "b", *files.files}
    assert files.pictures_below("a") == ["a/b/c.jpg", "a/inside.jpg"]
    assert files.pictures_below("a/b/c") == []
    reasons = [line.split(",")[0] for line in files.ignored]
    assert reasons == [
        "a/b/up: a link to a folder around it",
        "b/up: a link to a folder around it",
        f"dead.jpg: a link to {tmp_path / 'nowhere'}",
        "loop: a link to a folder around it",
        "out: a link out of the dataset",
        "pipe: neither a file nor a folder",
    ]


@pytest.mark.parametrize(
    ("picture", "places"),
    [
        ("a.jpg", ["a.txt"]),
        ("images/a.jpg", ["labels/a.txt", "images/a.txt"]),
        ("images/train/a.b.jpg", ["labels/train/a.b.txt", "images/train/a.b.txt"]),
        ("images/train/images/a.jpg", ["images/train/labels/a.txt", "images/train/images/a.txt"]),
        ("my images/a.jpg", ["my images/a.txt"]),
        ("images.jpg", ["images.txt"]),
    ],
)
def test_label_stands_where_ultralytics_looks_for_it(picture: str, places: list[str]) -> None:
    assert label_places(picture) == places
