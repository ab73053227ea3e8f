import hashlib
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from runner.dataset import archive
from runner.dataset.archive import unpack, write_zip
from runner.errors import DatasetError
from tests.support.trees import read_tree


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **properties: object) -> Path:
    """Write a zip; `properties` are attributes of its members' ZipInfo, past what its constructor tidies up."""
    with zipfile.ZipFile(path, "w") as zip_file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            for attribute, value in properties.items():
                setattr(info, attribute, value)
            zip_file.writestr(info, content, method)
    return path


def assert_refused(path: Path, message: str) -> None:
    """The zip is refused with this message, and there is nothing beside it afterwards."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DatasetError, match=rf"^a\.zip: {message}"):
        unpack(path, path.parent / "out")
    assert sorted(path.parent.rglob("*")) == before


def test_zip_is_refused_when_it_is_truncated_or_none(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", {"a.txt": os.urandom(1000), "b.txt": b"2"}).read_bytes()
    cut = [whole[:length] for length in (0, 2, 500, len(whole) - 30, len(whole) - 1)]
    for content in (*cut, b"<html>404</html>", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "a.zip").write_bytes(content)
        assert_refused(tmp_path / "a.zip", "not a whole zip")


@pytest.mark.parametrize("files", [{}, {"images/": b"", "./": b""}])
def test_zip_is_refused_when_it_is_empty(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert_refused(zipped(tmp_path / "a.zip", files), "holds no files")


def test_zip_is_unpacked_with_its_folders(tmp_path: Path) -> None:
    files = {"images/": b"", "images/a b.jpg": b"1", "./labels//größe.txt": b"", "直.txt": b"3", "v1..2/x.y": b"4"}
    path, new, empty = zipped(tmp_path / "a.zip", files), tmp_path / "new" / "out", tmp_path / "out"
    empty.mkdir()
    for out in (new, empty):
        unpack(path, out)
        assert read_tree(out) == {
            "images/a b.jpg": b"1",
            "labels/größe.txt": b"",
            "直.txt": b"3",
            "v1..2/x.y": b"4",
        }
    with pytest.raises(OSError, match="not empty"):
        unpack(path, out)
    assert sorted(path.name for path in (*tmp_path.iterdir(), *new.parent.iterdir())) == ["a.zip", "new", "out", "out"]


@pytest.mark.parametrize(
    ("reason", "names"),
    [
        ("leads out of the folder", ["../a.txt", "images/../../a.txt", "images/..", "../"]),
        ("an absolute path", ["/etc/passwd", "//server/share", "C:/a.txt", "c:a.txt"]),
        ("has backslashes", ["images\\a.txt", "..\\a.txt", "\\\\server\\a.txt"]),
        ("empty or with control characters", ["a\nb.txt", "a\x00b.txt", "."]),
        ("longer than 255 bytes a name or 1000 a path", ["a" * 256, "直" * 86, "abc/" * 300 + "a"]),
    ],
)
def test_name_is_refused_when_it_could_do_harm(tmp_path: Path, reason: str, names: list[str]) -> None:
    for name in names:
        assert_refused(zipped(tmp_path / "a.zip", {"placeholder": b""}, filename=name), f"'.*': {reason}")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(stat.S_IFLNK, "a link"), *((kind, "a special file") for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK))],
)
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int, reason: str) -> None:
    path = zipped(tmp_path / "a.zip", {"images/a.jpg": b"/etc/passwd"}, external_attr=(kind | 0o644) << 16)
    assert_refused(path, rf"images/a\.jpg: {reason}")


@pytest.mark.parametrize(
    ("local", "central", "value", "reason"),
    [
        (6, 8, 1, "encrypted"),
        (8, 10, 9, "packed with method 9"),
        (None, 24, 10, r"damaged \(Bad CRC-32"),  # the header says less than there is
    ],
)
def test_zip_is_refused_when_a_header_is_wrong(
    tmp_path: Path, local: int | None, central: int, value: int, reason: str
) -> None:
    path = zipped(tmp_path / "a.zip", {"a.txt": bytes(1000)})
    data = bytearray(path.read_bytes())
    if local is not None:
        data[data.index(b"PK\x03\x04") + local] = value
    start = data.index(b"PK\x01\x02") + central
    data[start : start + 2] = value.to_bytes(2, "little")
    path.write_bytes(data)
    assert_refused(path, rf"a\.txt: {reason}")


def test_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.bmp": bytes(17 * 2**20)})
    assert_refused(path, "unpacks to 17,825,792 bytes or more, expected at most 16,777,216 ")


def test_zip_is_refused_by_its_total_and_its_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", {f"{number}.jpg": os.urandom(400) for number in range(3)})
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    for _ in ("as declared", "as written"):
        assert_refused(path, "unpacks to 1,200 bytes or more, expected at most 1,000 ")
        monkeypatch.setattr(archive, "sum", lambda sizes: 0, raising=False)  # the header lies
    monkeypatch.setattr(archive, "MAX_BYTES", 1200)
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    assert_refused(path, "holds 3 files, expected at most 2$")
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    unpack(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["images/a.jpg", "images/A.jpg"], r"images/a\.jpg and images/A\.jpg are one file on many disks"),
        (["images/a.jpg", "Images/b.jpg"], r"images and Images are one file on many disks"),
        (["stra\u00dfe", "STRASSE"], r"straße and STRASSE are one file on many disks"),
        (["\u00e9", "e\u0301"], r". and .. are one file on many disks"),
        (["a", "./a"], r"a: is in it twice"),
        (["a", "a/b"], r"a: is a file and a folder"),
        (["a/b/c", "a/b"], r"a/b: is a file and a folder"),
    ],
)
def test_names_are_refused_when_a_disk_would_mix_them_up(tmp_path: Path, names: list[str], message: str) -> None:
    assert_refused(zipped(tmp_path / "a.zip", dict.fromkeys(names, b"")), message)


def test_names_that_say_no_encoding_are_read_as_utf8_else_as_code_page_437(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"gr??e1.txt": b"utf-8", "gr?e2.txt": b"437", "gr?e3.txt": b"latin-1"})
    data = path.read_bytes().replace(b"gr??e1", b"gr\xc3\xb6e1").replace(b"gr?e2", b"gr\x94e2")
    path.write_bytes(data.replace(b"gr?e3", b"gr\xf6e3"))
    unpack(path, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"gröe1.txt": b"utf-8", "gröe2.txt": b"437", "gr÷e3.txt": b"latin-1"}


def test_name_is_refused_when_it_says_utf8_and_is_not(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"größe.txt": b""})
    path.write_bytes(path.read_bytes().replace("ö".encode(), b"\xff\xfe"))
    assert_refused(path, r"a file name says it is UTF-8 and is not \(invalid start byte\)")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_is_refused_when_any_of_its_bytes_is_wrong_or_reads_as_before(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path / "a.zip", {"images/a.jpg": b"12345" * 9, "b.txt": b"2"}, method)
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0x41]) + whole[index + 1 :])
        out = tmp_path / f"out{index}"
        try:
            unpack(path, out)
        except DatasetError as error:
            assert str(error).startswith("a.zip: ")
            assert not out.exists()
        else:
            assert set(read_tree(out).values()) == {b"12345" * 9, b"2"}
    assert not list(tmp_path.glob(".*"))


def tarred(path: Path, files: dict[str, bytes], mode: str = "w:gz", **properties: Any) -> Path:
    """Write a tar; `properties` are attributes of its members' TarInfo."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for attribute, value in properties.items():
                setattr(info, attribute, value)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_is_unpacked_however_it_is_packed(tmp_path: Path, mode: str) -> None:
    files = {"./images/größe.jpg": os.urandom(3_000_000), "labels/a.txt": b"", f"{'a' * 200}/b": b"1"}
    path = tarred(tmp_path / "dataset.upload", files, mode)
    with tarfile.open(path, mode.replace("w", "r")) as tar:  # type: ignore[call-overload]
        assert len(tar.getmembers()) == 3
    unpack(path, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {name.removeprefix("./"): content for name, content in files.items()}


@pytest.mark.parametrize(
    ("files", "properties", "message"),
    [
        ({}, {}, "holds no files"),
        ({"../a": b""}, {}, r"'\.\./a': leads out"),
        ({"/a": b""}, {}, "'/a': an absolute path"),
        ({"a": b"", "A": b""}, {}, "a and A are one file"),
        ({"a": b""}, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a: a link"),
        ({"a": b""}, {"type": tarfile.LNKTYPE, "linkname": "b"}, "a: a link"),
        ({"a": b""}, {"type": tarfile.FIFOTYPE}, "a: a special file"),
        ({"a": bytes(17 * 2**20)}, {}, "unpacks to 17,825,792 bytes or more"),
        ({"a": bytes(3 * 2**20)}, {"type": tarfile.GNUTYPE_LONGNAME}, "not a whole tar .*a header of"),
    ],
)
def test_tar_is_refused_when_it_could_do_harm(
    tmp_path: Path, files: dict[str, bytes], properties: dict[str, Any], message: str
) -> None:
    assert_refused(tarred(tmp_path / "a.zip", files, **properties), message)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tar_is_refused_when_it_is_truncated_or_damaged(tmp_path: Path, mode: str) -> None:
    path = tarred(tmp_path / "a.zip", {"a.txt": os.urandom(2000), "b.txt": os.urandom(2000)}, mode)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[2560 if mode == "w" else len(whole) // 2] ^= 0x41  # the header of b.txt, or anywhere in a packed one
    for content in (bytes(damaged), *(whole[:length] for length in (1000, 2560, 3500))):
        path.write_bytes(content)
        assert_refused(path, "(not a whole tar|b.txt: damaged|a.txt: damaged)")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "packed as 7z, expected zip or tar.gz"),
        ("a.zip", b"Rar!\x1a\x07", "packed as rar"),
        ("result.json", b"[]", "neither a zip nor a tar, .* 'YOLO with Images'"),
        ("a.jpg", b"\xff\xd8", "neither a zip nor a tar"),
        ("data.yaml", b"names: [a]", "neither a zip nor a tar"),
    ],
)
def test_file_of_another_kind_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"^{name}: {message}"):
        unpack(tmp_path / name, tmp_path / "out")


def test_unpacking_leaves_nothing_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", {"a": b"1"})
    monkeypatch.setattr(archive, "_check_size", MagicMock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        unpack(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_written_zip_has_the_same_bytes_whatever_the_order_times_and_permissions(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1" * 3_000_000)
    (tmp_path / "two").write_bytes(b"1" * 3_000_000)
    (tmp_path / "two").chmod(0o600)
    os.utime(tmp_path / "two", (0, 0))
    write_zip([], tmp_path / "empty.zip")
    assert zipfile.ZipFile(tmp_path / "empty.zip").namelist() == []
    write_zip([("images/größe.jpg", tmp_path / "one"), ("classes.txt", b"a\n")], tmp_path / "a.zip")
    write_zip([("classes.txt", b"a\n"), ("images/größe.jpg", tmp_path / "two")], tmp_path / "b.zip")
    data = (tmp_path / "a.zip").read_bytes()
    assert data == (tmp_path / "b.zip").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "3c30445556768171bf4ef14397046e75a944cde53037c7f34aab3b89844b0442"
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"classes.txt": b"a\n", "images/größe.jpg": b"1" * 3_000_000}


def test_written_zip_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.zip").write_bytes(b"before")
    with pytest.raises(FileNotFoundError, match="gone"):
        write_zip([("a", b"1"), ("b", tmp_path / "gone")], tmp_path / "out" / "a.zip")
    assert read_tree(tmp_path / "out") == {"a.zip": b"before"}


def test_zip_is_not_written_when_its_names_could_do_harm(tmp_path: Path) -> None:
    for names, message in ((["../a"], r"'\.\./a': leads out"), (["a", "A"], "A and a are one file")):
        with pytest.raises(DatasetError, match=rf"^a\.zip: {message}"):
            write_zip([(name, b"") for name in names], tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []
