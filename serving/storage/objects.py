"""Files and objects by URI: a path, or s3://bucket/key on any S3 endpoint."""

import io
import os
import uuid
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from serving.storage.endpoint import Endpoint, code_of, connect, explain, is_missing, pool_of

_MAX_BYTES = 2_000_000_000
_ABSENT = ("NoSuchKey", "404", "AccessDenied", "403")


class StorageError(Exception):
    """Something could not be read or written; the text has the object and the cause, and no secret."""


class AbsentError(StorageError):
    """There is no such object, or none that this user may know of: without the right to list, S3 denies access."""


def read(uri: str, endpoint: Endpoint, most: int = _MAX_BYTES) -> bytes:
    """Return the content of a URI, or raise StorageError if it is unreachable, or an object of more bytes.

    AbsentError: it is missing.
    """
    try:
        if not uri.startswith("s3://"):
            with Path(uri.removeprefix("file://")).open("rb") as file:
                if (size := os.fstat(file.fileno()).st_size) > most:
                    raise StorageError(f"{uri}: has {size:,} bytes; expected at most {most:,}")
                return file.read()
        bucket, key = _parts(uri)
        with closing(connect(endpoint).get_object(bucket, key)) as response:
            size = int(response.headers.get("Content-Length", -1))
            if not 0 <= size <= most:
                raise StorageError(f"{uri}: has {size:,} bytes; expected at most {most:,}")
            data: bytes = response.read(decode_content=False)  # all at once: chunks take three times as long
        if size != len(data):
            raise StorageError(f"{uri}: {len(data)} of {size} bytes came; expected all")
        return data
    except StorageError:
        raise
    except Exception as error:  # errors of the client, urllib3 and the system have no common base
        absent = isinstance(error, FileNotFoundError) if isinstance(error, OSError) else code_of(error) in _ABSENT
        kind = AbsentError if absent else StorageError
        raise kind(f"{uri}: cannot be read: {_said(error, endpoint)}") from error


def size_of(uri: str, endpoint: Endpoint) -> int:
    """Return the bytes of what a URI names, or raise StorageError as `read`."""
    try:
        if not uri.startswith("s3://"):
            return Path(uri.removeprefix("file://")).stat().st_size
        size = connect(endpoint).stat_object(*_parts(uri)).size
        return int(size or 0)
    except StorageError:
        raise
    except Exception as error:  # as above
        raise StorageError(f"{uri}: cannot be read: {_said(error, endpoint)}") from error


def write(base: str, key: str, data: bytes, content_type: str, endpoint: Endpoint) -> None:
    """Write data under a key below a folder or s3://bucket[/prefix] atomically, or raise StorageError."""
    try:
        if not base.startswith("s3://"):
            target = Path(base.removeprefix("file://")) / key
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            try:
                temporary.write_bytes(data)
                temporary.replace(target)
            except BaseException:  # a full disk: what came of the file would fill it for good
                temporary.unlink(missing_ok=True)
                raise
            return
        bucket, prefix = _parts(base)
        whole = f"{prefix.rstrip('/')}/{key}" if prefix else key
        connect(endpoint).put_object(bucket, whole, io.BytesIO(data), len(data), content_type=content_type)
    except Exception as error:  # as above
        raise StorageError(f"{base}: {key} cannot be written: {_said(error, endpoint)}") from error


def create(base: str, key: str, data: bytes, endpoint: Endpoint) -> bool:
    """Write data under a key that is free, and return True, or False if it is taken; base as of `write`.

    An endpoint that knows no conditional PUT overwrites, or refuses the request, which returns True too.
    """
    try:
        if not base.startswith("s3://"):
            target = Path(base.removeprefix("file://")) / key
            if target.exists():
                return False
            temporary = f"{key}.{uuid.uuid4().hex}"
            write(base, temporary, data, "", endpoint)
            written = target.parent / Path(temporary).name
            try:
                target.hardlink_to(written)
            except FileExistsError:
                return False
            finally:
                written.unlink()
            return True
        bucket, prefix = _parts(base)
        whole = f"{prefix.rstrip('/')}/{key}" if prefix else key
        # Through a presigned URL, since the client's put_object cannot send the header.
        url = connect(endpoint).get_presigned_url("PUT", bucket, whole, expires=timedelta(hours=1))
        answer = pool_of(endpoint).request("PUT", url, body=data, headers={"If-None-Match": "*"}, retries=False)
    except StorageError:
        raise
    except Exception as error:  # as above
        raise StorageError(f"{base}: {key} cannot be written: {_said(error, endpoint)}") from error
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
    if not base.startswith("s3://"):
        (Path(base.removeprefix("file://")) / key).unlink(missing_ok=True)


def _parts(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    if not parts.netloc:
        raise StorageError(f"{uri}: names no bucket; expected s3://bucket/key")
    return parts.netloc, parts.path.lstrip("/")


def _said(error: Exception, endpoint: Endpoint) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError | ValueError):
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if is_missing(error):
        return "there is no such object; check that it is published, and the name"
    return explain(error, endpoint)
