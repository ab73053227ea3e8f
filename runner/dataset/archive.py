"""Archives: safe unpacking of untrusted zips and tars, and reproducible writing of zips of our own."""

import bz2
import gzip
import lzma
import re
import secrets
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple

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
_MAX_READ = 2 * _CHUNK  # [bytes] that reading a tar takes into memory at once
_MAX_TAIL = 16 * _CHUNK  # [bytes] after the end of a tar, where packers pad it
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_UTF8_FLAG = 0x800
_ENCRYPTED_FLAGS = 0x1 | 0x40
_LOCAL = b"PK\x03\x04"  # begins each file of a zip
_LOCAL_NEAR = 28  # [bytes] after the end of a file, which may have a descriptor of 24, within which the next begins
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_FOREIGN = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}
# Errors of zipfile and the decompressors on damaged bytes; bz2 and a bad offset raise plain OSError or ValueError.
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, OSError, ValueError, RuntimeError)


class _Member(NamedTuple):
    """A file of an archive."""

    path: str  # relative, with `/`
    size: int  # bytes, as declared
    open: Callable[[], Any]  # returns a binary file


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip or tar (plain, gz, bz2, xz) into a new or empty folder, which appears once all files are written.

    Names in a zip are decoded as UTF-8 where they are valid UTF-8, else as code page 437, the zip default. DatasetError
    if the archive is incomplete, unsafe or of another kind; nothing of it remains.
    """
    where = shown(path.name)
    limit = min(MAX_BYTES, max(MAX_RATIO * path.stat().st_size, ALWAYS_ALLOWED))
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        with ExitStack() as stack:
            members = _open_members(path, where, limit, stack)
            if not members:
                raise DatasetError(f"{where}: holds no files, expected a dataset")
            if len(members) > MAX_FILES:
                raise DatasetError(f"{where}: holds {len(members)} files, expected at most {MAX_FILES}")
            _check_size(sum(member.size for member in members), limit, where)  # as declared; _write checks the real
            _check_collisions([member.path for member in members], where)
            unfinished.mkdir(parents=True)
            _write(members, unfinished, limit, where)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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


def _open_members(path: Path, where: str, limit: int, stack: ExitStack) -> list[_Member]:
    """Open an archive of any known kind, until `stack` closes; return its files, all checked but for collisions."""
    with path.open("rb") as file:
        head = file.read(262)
    if kind := next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None):
        raise DatasetError(f"{where}: packed as {kind}, expected zip or tar.gz; unpack it, and add the folder")
    opener = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)
    if opener or head[257:] == b"ustar":
        stream = stack.enter_context(opener(path) if opener else path.open("rb"))
        try:
            return _tar_members(stream, where, limit, stack)
        except (tarfile.TarError, *_DAMAGED) as error:
            raise _not_whole("tar", where, error) from error
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise DatasetError(
            f"{where}: neither a zip nor a tar, expected one of these, or a folder, with pictures and their labels; "
            "of Label Studio choose the export 'YOLO with Images', of CVAT 'Ultralytics YOLO Detection' with images"
        )
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        _check_complete(archive, where)
    except PermissionError:
        raise
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{where}: a file name says it is UTF-8 and is not ({error.reason}), expected UTF-8; "
            "pack the dataset again with another tool"
        ) from error
    except _DAMAGED as error:
        raise _not_whole("zip", where, error) from error
    return _zip_members(archive, where)


def _not_whole(kind: str, where: str, error: Exception) -> DatasetError:
    return DatasetError(f"{where}: not a whole {kind} ({error}), expected one; copy or export it again")


def _not_plain(name: str, where: str, *, is_link: bool) -> DatasetError:
    kind = "a link" if is_link else "a special file"
    return DatasetError(f"{where}: {shown(name)}: {kind}, expected plain files; pack the files themselves")


def _tar_members(stream: IO[bytes], where: str, limit: int, stack: ExitStack) -> list[_Member]:
    """Return the files of a tar with what reads them; sizes are checked on the way, since the stream may be a bomb."""
    members: list[_Member] = []
    total = 0
    bounded: Any = _Bounded(stream)
    archive = stack.enter_context(tarfile.TarFile(fileobj=bounded, mode="r", errors="replace"))
    for info in archive:
        if info.isdir():
            continue
        _check_name(info.name, where)
        if not info.isreg() or info.issparse():
            raise _not_plain(info.name, where, is_link=info.issym() or info.islnk())
        members.append(_Member(_plain(info.name), info.size, partial(archive.extractfile, info)))
        total += info.size
        _check_size(total, limit, where)
        if len(members) > MAX_FILES:
            return members
    # tarfile takes a damaged header, or the end of the stream, for the end of the archive.
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it has no end after {len(members):,} files")
    for _ in range(_MAX_TAIL // _CHUNK):
        if not stream.read(_CHUNK):  # a packed stream has its checksum at the end
            break
    return members


class _Bounded:
    """A stream of which nobody reads much at once: tarfile takes headers of any size into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int) -> bytes:
        if size > _MAX_READ:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._read(size)


def _check_complete(archive: zipfile.ZipFile, where: str) -> None:
    """Reject a zip that holds a file which its list of files, at its end, does not name: the list is damaged."""
    file: Any = archive.fp
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in infos), archive.start_dir]
    end = 0
    for start, info in zip_longest(starts, infos):
        file.seek(end)
        if start > end and _LOCAL in file.read(min(start - end, _LOCAL_NEAR)):
            raise DatasetError(
                f"{where}: damaged: the file at byte {end:,} is not in its list of {len(infos):,} files, "
                "expected a whole zip; copy or export it again"
            )
        if info is not None:
            file.seek(start + 26)
            end = start + 30 + sum(struct.unpack("<2H", file.read(4))) + info.compress_size


def _zip_members(archive: zipfile.ZipFile, where: str) -> list[_Member]:
    """Return the files of a zip with what reads them, all checked before anything is written."""
    members = []
    for info in archive.infolist():
        name = _name(info)
        _check_name(name, where)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _not_plain(name, where, is_link=kind == stat.S_IFLNK)
        if info.flag_bits & _ENCRYPTED_FLAGS:
            raise DatasetError(f"{where}: {shown(name)}: encrypted, expected no password; pack it without one")
        if info.compress_type not in _METHODS:
            method = f"method {info.compress_type}"
            raise DatasetError(f"{where}: {shown(name)}: packed with {method}, expected deflate; pack it as plain zip")
        if not name.endswith("/"):
            members.append(_Member(_plain(name), info.file_size, partial(archive.open, info)))
    return members


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


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


def _write(members: list[_Member], folder: Path, limit: int, where: str) -> None:
    """Write the files; fail as soon as they exceed `limit` bytes together."""
    written = 0
    for member in members:
        target = folder / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in _chunks(member, f"{where}: {shown(member.path)}"):
                written += len(chunk)
                _check_size(written, limit, where)
                file.write(chunk)


def _chunks(member: _Member, where: str) -> Iterator[bytes]:
    """Read a file of an archive in chunks; the last one of a zip checks its CRC."""
    try:
        with member.open() as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except (tarfile.TarError, *_DAMAGED) as error:
        raise DatasetError(f"{where}: damaged ({error}), expected a whole archive; copy or export it again") from error
