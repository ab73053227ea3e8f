"""Writing so that a killed process leaves nothing that a later one trusts."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place when the block ends without an error.

    Args:
        path: the file; its folder is made.
        durable: wait for the disk, so that a power cut leaves the old file or the new one; costs milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o644)
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system cannot.

    Raises:
        FileExistsError: there is a file of this name.
    """
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise  # a copy would write into the file that is there, which may be a second name of another
    except OSError:
        shutil.copyfile(source, target)
