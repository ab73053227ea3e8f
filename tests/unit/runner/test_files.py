"""Files that appear whole or not at all."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from runner.files import link, sha256_of, write_text, writing


def test_file_is_there_when_the_text_is_empty(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").read_bytes() == b""


def test_text_and_folders_are_written_when_missing(tmp_path: Path) -> None:
    path = tmp_path / "ein Ordner" / "für" / f"{'直' * 66}.txt"
    write_text(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_old_text_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError, match="stop"), writing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_when_writing_fails_the_first_time(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="stop"), writing(tmp_path / "a.txt"):
        raise ZeroDivisionError("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_is_waited_for_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    with writing(tmp_path / "a", durable=durable) as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a").read_text() == "x"
    assert bool(waited) is durable


def test_digest_is_that_of_the_bytes_when_read(tmp_path: Path) -> None:
    for content in (b"", b"abc" * 100_000):
        (tmp_path / "a").write_bytes(content)
        assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_both_names_are_one_file_when_linked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")


def test_a_second_name_is_no_symlink_when_the_source_is_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "cache").symlink_to("a")
    link(tmp_path / "cache", tmp_path / "b")
    assert not (tmp_path / "b").is_symlink()
    assert (tmp_path / "b").read_text() == "x"


def test_content_is_copied_when_the_file_system_cannot_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("x")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"
    assert not (tmp_path / "a").samefile(tmp_path / "b")


def test_an_existing_file_stays_when_its_name_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("y")
    with pytest.raises(FileExistsError, match="b"):
        link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "y"
