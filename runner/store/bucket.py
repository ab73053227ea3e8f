"""Objects of a bucket over an unreliable network: retries, resumed downloads, and clear errors."""

from __future__ import annotations

import hashlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from runner.errors import ObjectError, StoreError
from runner.store.sink import CHUNK, Sink
from serving.storage.endpoint import Endpoint, code_of, connect, explain, is_missing, is_passing, is_unreadable

PATIENCE = (0.5, 1, 2, 4, 8, 16)  # [seconds] wait before each retry
_PART = 16 << 20  # [bytes] part size of a multipart upload
_MOST_STUCK = 3  # failures at the same byte before a download gives up
Result = TypeVar("Result")


class Found(NamedTuple):
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


class Bucket:
    """Bucket of an S3 endpoint; thread-safe."""

    def __init__(self, name: str, endpoint: Endpoint, patience: Sequence[float] = PATIENCE) -> None:
        """Take a bucket's name; no request is sent yet.

        Args:
            patience: [seconds] wait before each retry while the endpoint is unreachable.
        Raises:
            StoreError: the endpoint's address or certificates are unusable.
        """
        self.name, self.endpoint, self.uri = name, endpoint, f"s3://{name}"
        self.patience = patience
        try:
            self.client: Minio = connect(endpoint)
        except (ValueError, OSError) as error:
            raise StoreError(f"{self.uri}: {error}") from error

    def insist(self, what: str, do: Callable[[], Result]) -> Result:
        """Return the result of `do`; retry while the endpoint is unreachable or busy.

        Args:
            what: the failure, for the error message: "a/b cannot be read".
            do: one or more requests; must be idempotent.
        Raises:
            ObjectError: the endpoint cannot read the object.
            StoreError: with the error of the endpoint or network, and what to do.
        """
        waits = iter(self.patience)
        told = False
        while True:
            try:
                return do()
            except ParseError as error:
                raise StoreError(
                    f"{self.uri}: {what}: {self.endpoint.url} does not speak S3; "
                    "check AWS_ENDPOINT_URL (a console has a port of its own)"
                ) from error
            except (MinioException, HTTPError) as error:
                if is_unreadable(error):
                    raise ObjectError(f"{self.uri}: {what}: {explain(error, self.endpoint)}") from error
                said, delay = explain(error, self.endpoint), next(waits, None)
                if delay is None or not is_passing(error):
                    raise StoreError(f"{self.uri}: {what}: {said}") from error
            if not told:
                print(f"{self.uri}: {said}; trying again", file=sys.stderr, flush=True)
                told = True
            time.sleep(delay)

    def find(self, key: str) -> Found | None:
        """Return the properties of an object; None if there is none."""
        return self.insist(f"{key} cannot be examined", lambda: self._head(key))

    def get(self, key: str, most: int) -> bytes | None:
        """Return a small object of at most `most` bytes, checked against its stored digest; None if there is none."""

        def get() -> tuple[bytes, str | None] | None:
            try:
                response = self.client.get_object(self.name, key)
            except MinioException as error:
                if is_missing(error):
                    return None
                raise
            try:
                return response.read(most + 1, decode_content=False), response.headers.get("x-amz-meta-sha256")
            finally:
                response.close()
                response.release_conn()

        answer = self.insist(f"{key} cannot be read", get)
        if answer is None:
            return None
        content, noted = answer
        if len(content) > most:
            raise ObjectError(f"{self.uri}: {key} has more than {most:,} bytes, expected a small object")
        if noted is not None and (found := hashlib.sha256(content).hexdigest()) != noted:
            raise damaged(f"{self.uri}: {key}", found, noted)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store a small object with its digest."""
        metadata = {"sha256": hashlib.sha256(content).hexdigest()}
        self.insist(
            f"{key} cannot be stored",
            lambda: self.client.put_object(self.name, key, io.BytesIO(content), len(content), metadata=metadata),
        )

    def upload(self, key: str, path: Path, sha256: str) -> None:
        """Store a file with its digest; a large file is a multipart upload."""
        size, tried = path.stat().st_size, False

        def put() -> None:
            nonlocal tried
            if tried and (found := self._head(key)) and (found.size, found.sha256) == (size, sha256):
                return  # the upload succeeded, only its response was lost
            tried = True
            with path.open("rb") as file:
                self.client.put_object(self.name, key, file, size, metadata={"sha256": sha256}, part_size=_PART)

        self.insist(f"{key} cannot be stored", put)

    def download(self, key: str, found: Found, sink: Sink) -> None:
        """Append the missing bytes of an object to a sink, over several connections if needed.

        Raises:
            StoreError: the object was replaced meanwhile, or the connection breaks again and again.
        """
        if sink.size > found.size:
            sink.restart()
        stuck = 0
        while (before := sink.size) < found.size:
            self.insist(f"{key} cannot be fetched", lambda: self._receive(key, found, sink))
            stuck = 0 if sink.size > before else stuck + 1
            if stuck == _MOST_STUCK:
                raise ObjectError(
                    f"{self.uri}: {key} breaks off after {before:,} of {found.size:,} bytes, again and again; "
                    "expected all of it: the object is damaged at the store, restore or add it again"
                )

    def list(self, prefix: str) -> list[tuple[str, Found]]:
        """Return the objects whose keys begin with `prefix`, sorted by key, without the digests of their metadata."""
        return self.insist(
            f"{prefix or 'the bucket'} cannot be listed",
            lambda: sorted(
                (item.object_name, Found(item.size or 0, item.etag or "", None))
                for item in self.client.list_objects(self.name, prefix, recursive=True)
                if item.object_name
            ),
        )

    def _head(self, key: str) -> Found | None:
        try:
            found = self.client.stat_object(self.name, key)
        except MinioException as error:
            if is_missing(error):
                return None
            raise
        noted = {name.lower(): value for name, value in (found.metadata or {}).items()}
        return Found(found.size or 0, found.etag or "", noted.get("x-amz-meta-sha256"))

    def _receive(self, key: str, found: Found, sink: Sink) -> None:
        headers = {"If-Match": f'"{found.etag}"'} if found.etag else None
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
        try:
            if sink.size and not response.headers.get("Content-Range", "").startswith(f"bytes {sink.size}-"):
                sink.restart()  # an endpoint without range requests sends the whole object
            for chunk in response.stream(CHUNK, decode_content=False):
                sink.write(chunk)
        except HTTPError:
            return  # the sink keeps the bytes received
        finally:
            response.close()
            response.release_conn()
