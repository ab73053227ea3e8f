"""Store of datasets, weights, runs and models under keys, in a folder or a bucket of any S3 endpoint.

Objects are immutable, since a key holds a digest or a number that is used once: putting the same bytes again is a
no-op, other bytes under a taken key are an error. Only pointers, such as `models/<model>/latest.json`, are replaced.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runner.errors import MissingObjectError, ObjectError, StoreError

if TYPE_CHECKING:
    from runner.store.folder import FolderStore
    from runner.store.s3 import S3Store

SCHEME = "store:"
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MAX_KEY = 1000  # [bytes] S3's own limit is 1,024


class Store(Protocol):
    """Object store. Keys are `/`-separated words of ASCII letters, digits, `-`, `_` and `.`."""

    uri: str

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> bool:
        """Store a file of this digest (in hex; None: computed here) under a key atomically; return whether it is new.

        StoreError: the key has other content.
        """

    def create(self, key: str, content: bytes) -> bool:
        """Store a small object unless the key is taken; of several concurrent callers, one gets True."""

    def replace(self, key: str, content: bytes) -> None:
        """Replace a small object atomically; only for pointers."""

    def read(self, key: str) -> bytes:
        """Return a small object, or raise MissingObjectError."""

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Download an object to a file atomically, creating its folder; after an error the file is unchanged.

        ObjectError: its digest, in hex, is another than `sha256`; None: not checked.
        """

    def digest(self, key: str) -> str:
        """Return the SHA-256 of an object's current bytes, in hex, or raise MissingObjectError."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted; an empty prefix lists all."""

    def tag(self, key: str, tags: dict[str, str]) -> bool:
        """Replace the tags of an object; False, and nothing done, where the store has no tags."""

    def uri_of(self, key: str) -> str:
        """Return an object's URI for the model server and for a pin: a path or s3://bucket/key."""
        return f"{self.uri}/{check_key(key)}"


def open_store(
    project: Path, uri: str | None = None, environment: Mapping[str, str] = os.environ
) -> "FolderStore | S3Store":
    """Return the store at `uri`, else at STORE_URI: a folder, relative to the project, or s3://bucket; else `store`."""
    uri = uri or environment.get("STORE_URI") or "store"
    if uri.startswith("file://"):
        from serving.storage.objects import path_of

        uri = str(path_of(uri))
    if uri.startswith("s3://"):
        bucket = uri.removeprefix("s3://").rstrip("/")
        if not is_bucket(bucket):
            raise StoreError(f"STORE_URI {uri} names no bucket, expected s3://NAME of 3 to 63 a-z, 0-9, . and -")
        from runner.store.s3 import S3Store
        from serving.storage.endpoint import endpoint_of_environment

        return S3Store(bucket, endpoint_of_environment(environment))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", uri):
        raise StoreError(
            f"STORE_URI {uri} is not supported, expected a folder or s3://bucket; "
            f"leave it empty for {project / 'store'}"
        )
    from runner.store.folder import FolderStore

    folder = project / Path(uri).expanduser()
    if folder.is_file():
        raise StoreError(f"STORE_URI {uri} is a file, expected a folder or s3://bucket")
    return FolderStore(folder)


def is_bucket(text: str) -> bool:
    """Whether a text is a valid bucket name."""
    return _BUCKET.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether a text is a valid key."""
    return len(text) <= _MAX_KEY and _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """Return a valid key; StoreError: absolute, with `..`, hidden, empty, too long, or with other characters."""
    if not is_key(key):
        raise StoreError(
            f"{key[:80]!r} is not a key, expected words of A-Z a-z 0-9 . _ - with / between, none beginning with a dot"
        )
    return key


def key_of_url(url: str) -> str:
    """Return the key of a `store:` URL; raise StoreError for other URLs and invalid keys."""
    if not url.startswith(SCHEME):
        raise StoreError(
            f"{url[:80]!r} is not in the store, expected store: and a key; `python -m runner dataset add` writes it"
        )
    return check_key(url.removeprefix(SCHEME))


def mismatch(where: str, found: str, expected: str | None) -> ObjectError:
    """Return the error for an object whose digest differs from the expected one."""
    return ObjectError(
        f"{where}: its sha256 is {found}, but {expected} was expected: the object was replaced or damaged, or "
        "what names it (params.yaml, a manifest) has the digest of another; add it again, or correct that"
    )


def taken(where: str, other: str, path: Path, sha256: str) -> StoreError:
    """Return the error for an object that exists already, with another digest than the file to be put there."""
    return StoreError(
        f"{where} is there already, with other content (sha256 {other}) than {path} (sha256 {sha256}); "
        "objects never change: use another name, or remove that one if damaged"
    )


def missing(uri: str, key: str) -> MissingObjectError:
    """Return the error for a missing object."""
    return MissingObjectError(
        f"{uri}: there is no {key}; expected an object that was added or published: "
        "check the key, and that STORE_URI names the store that has it"
    )
