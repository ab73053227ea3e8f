"""Pictures of a folder or of a bucket's prefix: listed, and read one by one."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from runner.dataset.files import is_picture, list_files
from runner.errors import DatasetError, MissingObjectError, ObjectError
from runner.store import is_bucket
from runner.store.bucket import Bucket
from serving.storage.endpoint import endpoint_of_environment

_MAX_BYTES = 64 << 20  # of a file; a bucket's objects have the same limit


class SourcePicture(NamedTuple):
    """A picture in the list of a source."""

    key: str  # of the bucket, or the path below the folder
    size: int  # [bytes]
    version: str  # changes with the content: the object's ETag, or the file's time


def list_pictures(source: str, only: str | None = None) -> tuple[list[SourcePicture], int]:
    """Return the pictures below a folder or s3://bucket/prefix, sorted, and how many other files there are.

    A picture is a file with the suffix of one. `only`: this file of the folder. DatasetError: there is none.
    """
    if source.startswith("s3://"):
        bucket, prefix = _bucket_of(source)
        found = [(key, each.size, each.etag) for key, each in bucket.list(prefix) if not key.endswith("/")]
        listed = [SourcePicture(*each) for each in found if is_picture(each[0])]
        others = len(found) - len(listed)
    else:
        folder = Path(source)
        if not folder.is_dir():
            raise DatasetError(f"{source}: there is no such folder, expected one with pictures, or s3://bucket/prefix")
        files = [only] if only else list_files(folder).files
        states = [(key, (folder / key).stat()) for key in files if is_picture(key)]
        listed = [SourcePicture(key, state.st_size, str(state.st_mtime_ns)) for key, state in states]
        others = len(files) - len(listed)
    if not listed:
        where = f"{source}/{only}: no picture by its name" if only else f"{source}: no pictures ({others} other files)"
        raise DatasetError(f"{where}, expected files such as .jpg and .png")
    return listed, others


def read_picture(source: str, key: str) -> bytes:
    """Return a picture's bytes; ObjectError: it is gone, unreadable, or too large; StoreError: the store is."""
    if source.startswith("s3://"):
        content = _bucket_of(source)[0].get(key)
        if content is None:
            raise MissingObjectError("removed after it was listed")
        return content
    file = Path(source) / key
    try:
        if (size := file.stat().st_size) > _MAX_BYTES:
            raise ObjectError(f"the file has {size:,} bytes, expected at most {_MAX_BYTES:,}")
        return file.read_bytes()
    except OSError as error:
        raise ObjectError(f"cannot be read: {error.strerror}") from error


def reread(source: str, row: dict[str, Any]) -> bytes | None:
    """Return the picture of a row of scores; None: it is gone or has changed."""
    address: str = row["picture"]
    key = address.removeprefix(f"s3://{address.split('/')[2]}/") if source.startswith("s3://") else address
    try:
        data = read_picture(source, key)
    except ObjectError:
        return None
    return data if hashlib.sha256(data).hexdigest() == row["sha256"] else None


def address_of_picture(source: str, key: str) -> str:
    """Return the address of a picture for people: s3://bucket/key, or its path below the folder, in valid UTF-8."""
    text = f"{_bucket_of(source)[0].uri}/{key}" if source.startswith("s3://") else key
    return text.encode(errors="backslashreplace").decode()


def _bucket_of(source: str) -> tuple[Bucket, str]:
    """Return the bucket of s3://bucket/prefix, and the prefix with its last slash."""
    name, _, prefix = source.removeprefix("s3://").partition("/")
    if not is_bucket(name):
        raise DatasetError(f"{source}: names no bucket, expected s3://bucket/prefix")
    return Bucket(name, endpoint_of_environment()), f"{prefix.rstrip('/')}/" if prefix else ""
