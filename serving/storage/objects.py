"""Files and objects by URI: a path, or s3://bucket/key on any S3 endpoint."""

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

from serving.storage.endpoint import Endpoint, code_of, connect, explain, is_missing, pool_of

_MAX_BYTES = 2_000_000_000
_ABSENT = ("NoSuchKey", "404", "AccessDenied", "403")


class StorageError(Exception):
    """Something could not be read or written; the text has the object and the cause, and no secret."""


class AbsentError(StorageError):
    """There is no such object, or none that this user may know of: without the right to list, S3 denies access."""


def check_uri(uri: str) -> str:
    """Return a URI; ValueError: it is neither a path, file:// nor s3://bucket, and would become a folder."""
    scheme, colon, rest = uri.partition("://")
    if colon and scheme not in ("s3", "file"):
        raise ValueError(f"{scheme[:20]}:// is not supported; expected a path, or s3://bucket/key")
    if scheme == "s3" and not rest.partition("/")[0]:
        raise ValueError("s3:// names no bucket; expected s3://bucket/key")
    return uri


def path_of(uri: str) -> Path:
    """Return the path that a URI names: a path as it is, or one after file://, where %20 is a space."""
    if not uri.startswith("file://"):
        return Path(uri)
    return Path(unquote(uri.removeprefix("file://localhost").removeprefix("file://")))


def read(uri: str, endpoint: Endpoint, most: int = _MAX_BYTES) -> bytes:
    """Return the content of a URI, or raise StorageError if it is unreachable, or an object of more bytes.

    AbsentError: it is missing.
    """
    with _told(f"{uri}:", "read", endpoint):
        if path := _path(uri):
            with path.open("rb") as file:
                if (size := os.fstat(file.fileno()).st_size) > most:
                    raise StorageError(f"{uri}: has {size:,} bytes; expected at most {most:,}")
                return file.read()
        with closing(connect(endpoint).get_object(*_place(uri))) as response:
            size = int(response.headers.get("Content-Length", -1))
            if not 0 <= size <= most:
                raise StorageError(f"{uri}: has {size:,} bytes; expected at most {most:,}")
            data: bytes = response.read(decode_content=False)  # all at once: chunks take three times as long
        if size != len(data):
            raise StorageError(f"{uri}: {len(data)} of {size} bytes came; expected all")
        return data


def size_of(uri: str, endpoint: Endpoint) -> int:
    """Return the bytes of what a URI names, or raise StorageError as `read`."""
    with _told(f"{uri}:", "read", endpoint):
        if path := _path(uri):
            return path.stat().st_size
        return int(connect(endpoint).stat_object(*_place(uri)).size or 0)


def write(base: str, key: str, data: bytes, content_type: str, endpoint: Endpoint) -> None:
    """Write data under a key below a folder or s3://bucket[/prefix] atomically, or raise StorageError."""
    with _told(f"{base}: {key}", "written", endpoint):
        if not (folder := _path(base)):
            connect(endpoint).put_object(*_place(base, key), io.BytesIO(data), len(data), content_type=content_type)
            return
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(data)
            temporary.replace(target)
        except BaseException:  # a full disk: what came of the file would fill it for good
            temporary.unlink(missing_ok=True)
            raise


def create(base: str, key: str, data: bytes, endpoint: Endpoint) -> bool:
    """Write data under a key that is free, and return True, or False if it is taken; base as of `write`.

    An endpoint that knows no conditional PUT overwrites, or refuses the request, which returns True too.
    """
    with _told(f"{base}: {key}", "written", endpoint):
        if folder := _path(base):
            if (folder / key).exists():
                return False
            temporary = f"{key}.{uuid.uuid4().hex}"
            write(base, temporary, data, "", endpoint)
            try:
                (folder / key).hardlink_to(folder / temporary)
            except FileExistsError:
                return False
            finally:
                (folder / temporary).unlink()
            return True
        # Through a presigned URL, since the client's put_object cannot send the header.
        url = connect(endpoint).get_presigned_url("PUT", *_place(base, key), expires=timedelta(hours=1))
        answer = pool_of(endpoint).request("PUT", url, body=data, headers={"If-None-Match": "*"}, retries=False)
    if answer.status in (408, 409, 429) or (answer.status >= 500 and answer.status != 501):
        text = " ".join(answer.data[:300].decode(errors="replace").split())
        raise StorageError(f"{base}: {key} cannot be written: {answer.status} {text}")
    return bool(answer.status != 412)


def check_writable(base: str, prefix: str, endpoint: Endpoint) -> None:
    """Raise StorageError unless keys below a prefix can be written to a folder or s3://bucket[/prefix].

    A bucket then has an object `<prefix>/.writable`; a folder is left as it was.
    """
    key = f"{prefix}/.writable"
    write(base, key, b"The server that writes here looked whether it can.\n", "text/plain", endpoint)
    if folder := _path(base):
        (folder / key).unlink(missing_ok=True)


def _path(uri: str) -> Path | None:
    """Return the file or folder that a URI names; None: it is s3://."""
    return None if uri.startswith("s3://") else path_of(uri)


def _place(uri: str, key: str = "") -> tuple[str, str]:
    """Return the bucket and key of s3://, or of a key below it."""
    # No URL: a key may have #, ? and %, which mean nothing.
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageError(f"{uri}: names no bucket; expected s3://bucket/key")
    prefix = prefix.lstrip("/")
    return bucket, f"{prefix.rstrip('/')}/{key}" if prefix and key else prefix or key


@contextmanager
def _told(what: str, done: str, endpoint: Endpoint) -> Iterator[None]:
    """Raise StorageError, in words, for what fails in the block; AbsentError for what is missing and was to be read."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # errors of the client, urllib3 and the system have no common base
        absent = isinstance(error, FileNotFoundError) if isinstance(error, OSError) else code_of(error) in _ABSENT
        kind = AbsentError if absent and done == "read" else StorageError
        raise kind(f"{what} cannot be {done}: {_said(error, endpoint)}") from error


def _said(error: Exception, endpoint: Endpoint) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError | ValueError):
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if is_missing(error):
        return "there is no such object; check that it is published, and the name"
    return explain(error, endpoint)
