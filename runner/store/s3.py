"""Store in a bucket of any S3 endpoint.

The object `store.json` lists the capabilities of the endpoint, which `store init` detects; without it none is assumed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from minio.commonconfig import Tags
from minio.error import ServerError

from runner.errors import StoreError
from runner.store import check_key, is_key, mismatch, missing
from runner.store.bucket import PATIENCE, Bucket, Found, damaged
from runner.store.sink import Sink
from runner.workspace import sha256_of
from serving.storage.endpoint import Endpoint, endpoint_of_environment, pool_of

CAPABILITIES = "store.json"
_MAX_READ = 64 << 20  # [bytes] limit of `read`
_SETTLE_SECONDS = 1.0


class Capabilities(NamedTuple):
    """Capabilities of an endpoint beyond plain objects."""

    conditional_put: bool = False
    tags: bool = False
    versioning: bool = False


class S3Store:
    """Store in a bucket; its keys are the objects' names."""

    def __init__(self, bucket: str, endpoint: Endpoint | None = None, patience: Sequence[float] = PATIENCE) -> None:
        """Take a bucket, by default of the environment's endpoint; no request is sent yet.

        Raises:
            StoreError: the endpoint's address or certificates are unusable.
        """
        self.bucket = Bucket(bucket, endpoint or endpoint_of_environment(), patience)
        self.uri = self.bucket.uri

    @cached_property
    def capabilities(self) -> Capabilities:
        """Capabilities that `store init` detected; none where it has not run."""
        if not self.exists(CAPABILITIES):
            return Capabilities()
        try:
            found = json.loads(self.read(CAPABILITIES))
            return Capabilities(*(found[name] is True for name in Capabilities._fields))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.uri}: {CAPABILITIES} is not what `python -m runner store init` writes; run it again"
            ) from error

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> bool:
        """Store a file under a key atomically; return whether it is new."""
        found, sha256 = self.bucket.find(check_key(key)), sha256 or sha256_of(path)
        if found is None:
            self.bucket.upload(key, path, sha256)
            return True
        if (found.size, found.sha256) != (path.stat().st_size, sha256) and (other := self.digest(key)) != sha256:
            raise StoreError(
                f"{self.uri}: {key} is there already, with other content (sha256 {other}) than {path} "
                f"(sha256 {sha256}); objects never change: use another name, or remove that one if damaged"
            )
        return False

    def create(self, key: str, content: bytes) -> bool:
        """Store a small object unless the key is taken; of several concurrent callers, one gets True.

        Without conditional PUT at the endpoint, this holds only for callers at least a second apart.
        """
        check_key(key)
        if self.capabilities.conditional_put:
            return self._create_at_once(key, content)
        if self.exists(key):
            return False
        self.replace(key, content)
        time.sleep(_SETTLE_SECONDS)
        return self.read(key) == content

    def replace(self, key: str, content: bytes) -> None:
        """Replace a small object atomically; only for pointers."""
        self.bucket.put(check_key(key), content)

    def read(self, key: str) -> bytes:
        """Return a small object."""
        content = self.bucket.get(check_key(key), _MAX_READ)
        if content is None:
            raise missing(self.uri, key)
        return content

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Download an object to a file atomically; resumes the download of a killed process."""
        found = self._existing(key)
        beginning = f".{path.name}.{hashlib.sha256(found.etag.encode()).hexdigest()[:16]}.part"
        with _appending(path.with_name(beginning)) as file:
            sink = Sink(file)
            continued = sink.size > 0
            self.bucket.download(key, found, sink)
            expected = sha256 or found.sha256 or sink.sha256
            if continued and sink.sha256 != expected:
                sink.restart()  # the beginning may be damaged by a power cut
                self.bucket.download(key, found, sink)
            file.flush()
            if sink.sha256 != expected:
                Path(file.name).unlink()
                where = f"{self.uri}: {key}"
                raise mismatch(where, sink.sha256, sha256) if sha256 else damaged(where, sink.sha256, expected)
            Path(file.name).replace(path)

    def digest(self, key: str) -> str:
        """Return the SHA-256 of an object's current bytes, in hex."""
        sink = Sink()
        self.bucket.download(key, self._existing(key), sink)
        return sink.sha256

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        return self.bucket.find(check_key(key)) is not None

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted; an empty prefix lists all."""
        if top := prefix.rpartition("/")[0]:
            check_key(top)
        return [key for key, _ in self.bucket.list(prefix) if is_key(key)]

    def tag(self, key: str, tags: dict[str, str]) -> bool:
        """Replace the tags of an object; False, and nothing done, where the endpoint has no tags."""
        if not self.capabilities.tags:
            return False
        given = Tags.new_object_tags()
        given.update(tags)
        put = self.bucket.client.set_object_tags
        self.bucket.insist(f"{check_key(key)} cannot be tagged", lambda: put(self.bucket.name, key, given))
        return True

    def uri_of(self, key: str) -> str:
        """Return s3://bucket/key."""
        return f"{self.uri}/{check_key(key)}"

    def _existing(self, key: str) -> Found:
        found = self.bucket.find(check_key(key))
        if found is None:
            raise missing(self.uri, key)
        return found

    def _create_at_once(self, key: str, content: bytes) -> bool:
        """Create by a conditional PUT through a presigned URL; the client's put_object cannot send the header."""
        name, client, pool = self.bucket.name, self.bucket.client, pool_of(self.bucket.endpoint)
        tries = 0

        def put() -> int:
            nonlocal tries
            tries += 1
            url = client.get_presigned_url("PUT", name, key, expires=timedelta(hours=1))
            answer = pool.request("PUT", url, body=content, headers={"If-None-Match": "*"}, retries=False)
            if answer.status not in (200, 412):
                said = answer.data[:1000].decode(errors="replace")
                raise ServerError(f"server failed with HTTP status code {answer.status}: {said}", answer.status)
            return answer.status

        if self.bucket.insist(f"{key} cannot be created", put) == 200:
            return True
        return tries > 1 and self.read(key) == content  # the first request may have succeeded without its response


@contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read and append, locked; a second process waits.

    The file stays for another process to resume if this one is killed or the network fails; a disk error removes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                continue  # another process finished with this file while we waited for the lock
            try:
                yield file
            except OSError:
                path.unlink(missing_ok=True)  # otherwise a full disk stays full
                raise
            return
