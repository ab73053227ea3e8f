"""Store in a bucket of any S3 endpoint.

The object `store.json` lists the capabilities of the endpoint, which `store init` detects; without it none is assumed.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from runner.errors import MissingObjectError, StoreError
from runner.store import Store, check_key, is_key, mismatch, missing, taken
from runner.store.bucket import Bucket, ObjectInfo, damaged, retention
from runner.store.sink import Sink
from runner.workspace import sha256_of
from serving.storage.endpoint import Endpoint, endpoint_of_environment

CAPABILITIES = "store.json"
PUBLISHED = ("backups/", "datasets/", "models/", "runs/", "weights/")  # never replaced; locked where the endpoint can
_SETTLE_SECONDS = 1.0


class Capabilities(BaseModel):
    """Capabilities of an endpoint beyond plain objects; content of store.json."""

    model_config = ConfigDict(frozen=True, strict=True)

    conditional_put: bool
    tags: bool
    versioning: bool
    object_lock: bool = False


class S3Store(Store):
    """Store in a bucket; its keys are the objects' names. A fetch resumes the download of a killed process."""

    def __init__(self, bucket: str, endpoint: Endpoint | None = None) -> None:
        """Take a bucket, by default of the environment's endpoint; no request is sent yet."""
        self.bucket = Bucket(bucket, endpoint or endpoint_of_environment())
        self.uri = self.bucket.uri

    @cached_property
    def capabilities(self) -> Capabilities:
        """Capabilities that `store init` detected; none where it has not run."""
        try:
            return Capabilities.model_validate_json(self.read(CAPABILITIES))
        except MissingObjectError:
            return Capabilities(conditional_put=False, tags=False, versioning=False)
        except ValidationError as error:
            raise StoreError(
                f"{self.uri}: {CAPABILITIES} is not what `python -m runner store init` writes; run it again"
            ) from error

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> bool:
        found, sha256 = self.bucket.find(check_key(key)), sha256 or sha256_of(path)
        if found is None:
            is_locked = key.startswith(PUBLISHED) and self.capabilities.object_lock
            self.bucket.upload(key, path, sha256, retention=retention() if is_locked else None)
            return True
        if (found.size, found.sha256) != (path.stat().st_size, sha256) and (other := self.digest(key)) != sha256:
            raise taken(f"{self.uri}: {key}", other, path, sha256)
        return False

    def create(self, key: str, content: bytes) -> bool:
        # Without conditional PUT at the endpoint, one gets True only of callers at least a second apart.
        check_key(key)
        if self.capabilities.conditional_put:
            return self.bucket.create(key, content)
        if self.exists(key):
            return False
        self.replace(key, content)
        time.sleep(_SETTLE_SECONDS)
        return self.read(key) == content

    def replace(self, key: str, content: bytes) -> None:
        self.bucket.put(check_key(key), content)

    def read(self, key: str) -> bytes:
        content = self.bucket.get(check_key(key))
        if content is None:
            raise missing(self.uri, key)
        return content

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        info, where = self._existing(key), f"{self.uri}: {key}"
        beginning = f".{path.name}.{hashlib.sha256(info.etag.encode()).hexdigest()[:16]}.part"
        with _appending(path.with_name(beginning)) as file:
            sink = Sink(file)
            continued = sink.size > 0
            self.bucket.download(key, info, sink)
            expected = sha256 or info.sha256 or sink.sha256
            if continued and sink.sha256 != expected:
                sink.restart()  # the beginning may be damaged by a power cut
                self.bucket.download(key, info, sink)
            file.flush()
            if sink.sha256 != expected:
                Path(file.name).unlink()
                raise mismatch(where, sink.sha256, sha256) if sha256 else damaged(where, sink.sha256, expected)
            Path(file.name).replace(path)

    def digest(self, key: str) -> str:
        sink = Sink()
        self.bucket.download(key, self._existing(key), sink)
        return sink.sha256

    def exists(self, key: str) -> bool:
        return self.bucket.find(check_key(key)) is not None

    def list(self, prefix: str) -> list[str]:
        if top := prefix.rpartition("/")[0]:
            check_key(top)
        return [key for key, _ in self.bucket.list(prefix) if is_key(key)]

    def tag(self, key: str, tags: dict[str, str]) -> bool:
        if self.capabilities.tags:
            self.bucket.tag(check_key(key), tags)
        return self.capabilities.tags

    def _existing(self, key: str) -> ObjectInfo:
        found = self.bucket.find(check_key(key))
        if found is None:
            raise missing(self.uri, key)
        return found


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
