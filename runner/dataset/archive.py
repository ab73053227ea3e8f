"""Zip files: safe unpacking of untrusted ones, and reproducible writing of our own."""

import lzma
import re
import secrets
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

from runner.dataset.names import fold, shown
from runner.errors import DatasetError
from runner.workspace import writing

MAX_BYTES = 200 * 2**30  # [bytes] unpacked, all files together
MAX_RATIO = 100  # [-] unpacked to packed size; pictures hardly compress, so real datasets are far below
MAX_FILES = 1_000_000  # [files]
MAX_PATH = 1000  # [bytes of UTF-8]
MAX_NAME = 255  # [bytes of UTF-8] of one path component; the limit of most file systems
ALWAYS_ALLOWED = 16 * 2**20  # [bytes] unpacked, whatever the ratio: a small zip of repetitive text is not a bomb

_CHUNK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_UTF8_FLAG = 0x800
_ENCRYPTED_FLAGS = 0x1 | 0x40
# Errors of zipfile and the decompressors on damaged bytes; bz2 and a bad offset raise plain OSError or ValueError.
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, OSError, ValueError, RuntimeError)


def unpack(zip_path: Path, folder: Path) -> None:
    """Unpack a zip into a new or empty folder, which appears once all files are written.

    Names are decoded as UTF-8 where they are valid UTF-8, else as code page 437, the zip default. DatasetError if the
    zip is incomplete or unsafe; nothing of it remains.
    """
    where = shown(zip_path.name)
    limit = min(MAX_BYTES, max(MAX_RATIO * zip_path.stat().st_size, ALWAYS_ALLOWED))
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        with _open(zip_path, where) as archive:
            members = _members(archive, where)
            if not members:
                raise DatasetError(f"{where}: holds no files, expected a dataset")
            if len(members) > MAX_FILES:
                raise DatasetError(f"{where}: holds {len(members)} files, expected at most {MAX_FILES}")
            _check_size(sum(info.file_size for info, _ in members), limit, where)  # as declared; _write checks the real
            partial.mkdir(parents=True)
            _write(archive, members, partial, limit, where)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_zip(files: Iterable[tuple[str, Path | bytes]], path: Path) -> None:
    """Write a zip of names with `/`, each with its content or the file to read it from; DatasetError by `check_names`.

    It appears whole or not at all, and its bytes depend only on names and contents: files are sorted by name and stored
    uncompressed, since pictures would not shrink and zlib versions differ.
    """
    chosen = sorted(files, key=lambda file: file[0])
    check_names([name for name, _ in chosen], shown(path.name))
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in chosen:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix: readers then use the permissions
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if isinstance(content, bytes):
                archive.writestr(info, content)
                continue
            info.file_size = content.stat().st_size
            with content.open("rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK)


def check_names(paths: list[str], where: str) -> None:
    """Reject relative paths, with `/`, that leave the folder or collide on some file systems."""
    for path in paths:
        _check_name(path, where)
    _check_collisions(paths, where)


def _open(zip_path: Path, where: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(zip_path)
    except PermissionError:
        raise
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{where}: a file name says it is UTF-8 and is not ({error.reason}), expected UTF-8; "
            "pack the dataset again with another tool"
        ) from error
    except _DAMAGED as error:
        raise DatasetError(f"{where}: not a whole zip ({error}), expected one; copy or export it again") from error


def _members(archive: zipfile.ZipFile, where: str) -> list[tuple[zipfile.ZipInfo, str]]:
    """Return the files of a zip with their paths, after checking all of them, before anything is written."""
    members = []
    for info in archive.infolist():
        name = _name(info)
        _check_name(name, where)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "a link" if stat.S_ISLNK(mode) else "a special file"
            raise DatasetError(f"{where}: {shown(name)}: {kind}, expected plain files; pack the files themselves")
        if info.flag_bits & _ENCRYPTED_FLAGS:
            raise DatasetError(f"{where}: {shown(name)}: encrypted, expected no password; pack it without one")
        if info.compress_type not in _METHODS:
            method = f"method {info.compress_type}"
            raise DatasetError(f"{where}: {shown(name)}: packed with {method}, expected deflate; pack it as plain zip")
        if not name.endswith("/"):
            members.append((info, "/".join(part for part in name.split("/") if part not in ("", "."))))
    _check_collisions([path for _, path in members], where)
    return members


def _name(info: zipfile.ZipInfo) -> str:
    """Return the decoded name; macOS and others write UTF-8 without setting its flag."""
    name = info.orig_filename  # info.filename is cut at a NUL
    if info.flag_bits & _UTF8_FLAG:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _check_name(name: str, where: str) -> None:
    """Reject a name that leaves the folder or that file systems refuse."""
    parts = name.split("/")
    reason = None
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        reason = "an absolute path"
    elif ".." in parts:
        reason = "leads out of the folder"
    elif "\\" in name:
        reason = "has backslashes"
    elif name in ("", ".") or re.search(r"[\x00-\x1f\x7f]", name):
        reason = "empty or with control characters"
    elif len(name.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts):
        reason = f"longer than {MAX_NAME} bytes a name or {MAX_PATH} a path"
    if reason:
        raise DatasetError(
            f"{where}: {shown(name)[:80]!r}: {reason}, expected a plain relative path; "
            "pack the dataset again with another tool"
        )


def _check_collisions(paths: list[str], where: str) -> None:
    """Reject paths that collide on a case-insensitive or Unicode-normalising file system."""
    spelling: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        heads = list(accumulate(path.split("/"), "{}/{}".format))  # a, a/b, a/b/c for a/b/c
        for written in heads:
            if (first := spelling.setdefault(fold(written), written)) != written:
                raise DatasetError(
                    f"{where}: {shown(first)} and {shown(written)} are one file on many disks, expected names that "
                    "differ in more than case; rename one"
                )
        if path in files:
            raise DatasetError(f"{where}: {shown(path)}: is in it twice, expected once; pack the dataset again")
        files.add(path)
        folders.update(heads[:-1])
    if both := files & folders:
        path = shown(min(both))
        raise DatasetError(f"{where}: {path}: is a file and a folder, expected one; pack the dataset again")


def _check_size(size: int, limit: int, where: str) -> None:
    if size > limit:
        raise DatasetError(
            f"{where}: unpacks to {size:,} bytes or more, expected at most {limit:,} from a zip of this size; "
            "pictures do not shrink like this, so it may be a zip bomb"
        )


def _write(
    archive: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, str]], folder: Path, limit: int, where: str
) -> None:
    """Write the files; fail as soon as they exceed `limit` bytes together."""
    written = 0
    for info, path in members:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in _chunks(archive, info, f"{where}: {shown(path)}"):
                written += len(chunk)
                _check_size(written, limit, where)
                file.write(chunk)


def _chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    """Read a file of a zip in chunks; the last one checks its CRC."""
    try:
        with archive.open(info) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except _DAMAGED as error:
        raise DatasetError(f"{where}: damaged ({error}), expected a whole zip; copy or export it again") from error
