"""Requests to a bucket over an unreliable network: retries, resumed downloads, and clear errors."""

import functools
import hashlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.commonconfig import Tags
from minio.error import MinioException, ServerError
from minio.retention import GOVERNANCE, Retention
from urllib3.exceptions import HTTPError

from runner.errors import ObjectError, StoreError
from runner.store.sink import CHUNK, Sink
from serving.storage.endpoint import Endpoint, code_of, connect, explain, is_missing, is_passing, is_unreadable, pool_of

_MAX_SMALL = 64 << 20  # [bytes] limit of `get`
_PART = 16 << 20  # [bytes] part size of a multipart upload
_KEEP = timedelta(days=3650)
_MOST_STUCK = 3  # failures at the same byte before a download gives up
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_Method = Callable[Concatenate["Bucket", str, Arguments], Result]


class ObjectInfo(NamedTuple):
    """Properties of an object in a bucket; `sha256` is the digest in its metadata, None if there is none."""

    size: int
    etag: str
    sha256: str | None


def damaged(where: str, found: str, noted: str) -> ObjectError:
    """Return the error for an object whose bytes differ from its stored digest."""
    return ObjectError(
        f"{where}: its sha256 is {found}, but {noted} was noted when it was stored: it was damaged or replaced; "
        "restore an earlier version of the object, or remove it and add it again"
    )


def retention() -> Retention:
    """Return the lock of a published object: no user of ours may lift it, the endpoint's administrator may."""
    return Retention(GOVERNANCE, datetime.now(UTC) + _KEEP)


def _retried(failure: str) -> Callable[[_Method[Arguments, Result]], _Method[Arguments, Result]]:
    """Let `Bucket.with_retries` run a method whose first argument is a key; `failure` follows the key in errors."""

    def decorate(method: _Method[Arguments, Result]) -> _Method[Arguments, Result]:
        @functools.wraps(method)
        def retried(self: "Bucket", key: str, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return self.with_retries(f"{key or 'the bucket'} {failure}", method, self, key, *args, **kwargs)

        return retried

    return decorate


class Bucket:
    """Bucket of an S3 endpoint; thread-safe."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        """Take a bucket's name; no request is sent yet. StoreError: the endpoint's address or CA_BUNDLE is unusable."""
        self.name, self.endpoint, self.uri = name, endpoint, f"s3://{name}"
        self.retry_waits_s: Sequence[float] = (0.5, 1, 2, 4, 8, 16)  # before each retry
        try:
            self.client: Minio = connect(endpoint)
        except (ValueError, OSError) as error:
            raise StoreError(f"{self.uri}: {error}") from error

    def with_retries(
        self, failure: str, request: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return the result of one or more idempotent requests; retry while the endpoint is unreachable or busy.

        StoreError says the `failure`, as "a/b cannot be read"; ObjectError: the endpoint cannot read its disk.
        """
        for tries, delay in enumerate((*self.retry_waits_s, None)):
            try:
                return request(*args, **kwargs)
            except ParseError as error:
                raise StoreError(
                    f"{self.uri}: {failure}: {self.endpoint.url} does not speak S3; "
                    "check AWS_ENDPOINT_URL (a console has a port of its own)"
                ) from error
            except (MinioException, HTTPError) as error:
                reason = explain(error, self.endpoint)
                if is_unreadable(error):
                    raise ObjectError(f"{self.uri}: {failure}: {reason}") from error
                if delay is None or not is_passing(error):
                    raise StoreError(f"{self.uri}: {failure}: {reason}") from error
            if not tries:
                print(f"{self.uri}: {reason}; trying again", file=sys.stderr, flush=True)
            time.sleep(delay)
        raise AssertionError("the last try returns or raises")

    @_retried("cannot be examined")
    def find(self, key: str) -> ObjectInfo | None:
        """Return the properties of an object; None if there is none."""
        try:
            found = self.client.stat_object(self.name, key)
        except MinioException as error:
            if is_missing(error):
                return None
            raise
        metadata = {name.lower(): value for name, value in (found.metadata or {}).items()}
        return ObjectInfo(found.size or 0, found.etag or "", metadata.get("x-amz-meta-sha256"))

    @_retried("cannot be read")
    def get(self, key: str) -> bytes | None:
        """Return a small object, checked against its stored digest; None if there is none."""
        try:
            response = self.client.get_object(self.name, key)
        except MinioException as error:
            if is_missing(error):
                return None
            raise
        with closing(response):
            content: bytes = response.read(_MAX_SMALL + 1, decode_content=False)
        if len(content) > _MAX_SMALL:
            raise ObjectError(f"{self.uri}: {key} has more than {_MAX_SMALL:,} bytes, expected a small object")
        noted = response.headers.get("x-amz-meta-sha256")
        if noted is not None and (found := hashlib.sha256(content).hexdigest()) != noted:
            raise damaged(f"{self.uri}: {key}", found, noted)
        return content

    @_retried("cannot be stored")
    def put(self, key: str, content: bytes) -> None:
        """Store a small object with its digest."""
        metadata = {"sha256": hashlib.sha256(content).hexdigest()}
        self.client.put_object(self.name, key, io.BytesIO(content), len(content), metadata=metadata)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Store a small object by one conditional PUT, not retried; return False where the key is taken.

        It goes through a presigned URL, since the client's put_object cannot send the header.
        """
        url = self.client.get_presigned_url("PUT", self.name, key, expires=timedelta(hours=1))
        answer = pool_of(self.endpoint).request("PUT", url, body=content, headers={"If-None-Match": "*"}, retries=False)
        if answer.status not in (200, 412):
            text = answer.data[:1000].decode(errors="replace")
            raise ServerError(f"server failed with HTTP status code {answer.status}: {text}", answer.status)
        return bool(answer.status == 200)

    def create(self, key: str, content: bytes) -> bool:
        """Store a small object unless the key is taken; return whether it was stored."""
        tries = 0

        def put() -> bool:
            nonlocal tries
            tries += 1
            return self.put_if_absent(key, content)

        if self.with_retries(f"{key} cannot be created", put):
            return True
        # The first request may have succeeded, and only its response was lost.
        return tries > 1 and self.get(key) == content

    def upload(self, key: str, path: Path, sha256: str, retention: Retention | None = None) -> None:
        """Store a file with its digest, locked where a retention is given; a large file is a multipart upload."""
        size, tried = path.stat().st_size, False

        def put() -> None:
            nonlocal tried
            if tried and (found := self.find(key)) and (found.size, found.sha256) == (size, sha256):
                return  # the upload succeeded, only its response was lost
            tried = True
            noted = {"sha256": sha256}
            self.client.fput_object(self.name, key, str(path), metadata=noted, part_size=_PART, retention=retention)

        self.with_retries(f"{key} cannot be stored", put)

    def download(self, key: str, info: ObjectInfo, sink: Sink) -> None:
        """Append the missing bytes of an object to a sink, over several connections if needed."""
        if sink.size > info.size:
            sink.restart()
        stuck = 0
        while (before := sink.size) < info.size:
            self._receive(key, info.etag, sink)
            stuck = 0 if sink.size > before else stuck + 1
            if stuck == _MOST_STUCK:
                raise ObjectError(
                    f"{self.uri}: {key} breaks off after {before:,} of {info.size:,} bytes, again and again; "
                    "expected all of it: the object is damaged at the store, restore or add it again"
                )

    @_retried("cannot be fetched")
    def _receive(self, key: str, etag: str, sink: Sink) -> None:
        headers = {"If-Match": f'"{etag}"'} if etag else None
        try:
            response = self.client.get_object(self.name, key, offset=sink.size, request_headers=headers)
        except MinioException as error:
            code = code_of(error)
            if code in ("InvalidRange", "416"):
                return  # the object is shorter than the endpoint said
            if code in ("PreconditionFailed", "412") or is_missing(error):
                raise StoreError(
                    f"{self.uri}: {key} was replaced or removed while it was fetched; try again"
                ) from error
            raise
        with closing(response), suppress(HTTPError):  # the sink keeps the bytes received
            if sink.size and not response.headers.get("Content-Range", "").startswith(f"bytes {sink.size}-"):
                sink.restart()  # an endpoint without range requests sends the whole object
            for chunk in response.stream(CHUNK, decode_content=False):
                sink.write(chunk)

    @_retried("cannot be listed")
    def list(self, prefix: str) -> list[tuple[str, ObjectInfo]]:
        """Return the objects whose keys begin with `prefix`, sorted by key, without the digests of their metadata."""
        items = self.client.list_objects(self.name, prefix, recursive=True)
        found = [(item.object_name, ObjectInfo(item.size or 0, item.etag or "", None)) for item in items]
        return sorted(each for each in found if each[0])

    @_retried("cannot be tagged")
    def tag(self, key: str, tags: dict[str, str]) -> None:
        """Replace the tags of an object."""
        given = Tags.new_object_tags()
        given.update(tags)
        self.client.set_object_tags(self.name, key, given)
