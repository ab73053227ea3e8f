"""The store: datasets, weights, runs and models under keys, in a folder or a bucket of any S3 endpoint.

An object never changes: its key holds a digest or a number that is used once. So putting the same again is nothing,
and putting something else under a key that is taken is an error. Only a pointer, such as `models/<model>/latest.json`,
is replaced.
"""

import os
import re
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from runner.errors import MissingObjectError, ObjectError, StoreError

SCHEME = "store:"
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MAX_KEY = 1000  # [bytes] S3 allows 1,024


class Store(Protocol):
    """Where objects are kept. Keys are `/`-separated words of ASCII letters, digits, `-`, `_` and `.`."""

    uri: str

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> bool:
        """Keep a file under a key, whole or not at all; return whether it is new.

        Args:
            key: of the object.
            path: the file.
            sha256: its digest, in hex, where the caller knows it; None: made here.
        Raises:
            StoreError: the key is taken by other content, or not a key.
        """

    def create(self, key: str, content: bytes) -> bool:
        """Keep a small object unless the key is taken; of several callers at once, one is told True."""

    def replace(self, key: str, content: bytes) -> None:
        """Keep a small object in the place of another, whole or not at all: for pointers alone."""

    def read(self, key: str) -> bytes:
        """Return a small object.

        Raises:
            MissingObjectError: there is no such object.
        """

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Write an object to a file, whole or not at all.

        Args:
            key: of the object.
            path: the file; its folder is made.
            sha256: the digest that the object must have, in hex; None: not checked.
        Raises:
            ObjectError: there is no such object, or it has another digest; then `path` is left as it was.
        """

    def digest(self, key: str) -> str:
        """Return the SHA-256 of an object's bytes as they are now, in hex.

        Raises:
            StoreError: there is no such object.
        """

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted; the empty prefix gives all."""

    def tag(self, key: str, tags: dict[str, str]) -> bool:
        """Give an object these tags instead of those it has; False, and nothing done, where the store keeps no tags."""

    def uri_of(self, key: str) -> str:
        """Return how the model server and a pin name an object: a path or s3://bucket/key."""


def open_store(project: Path, uri: str | None = None) -> Store:
    """Return the store that STORE_URI names: a folder, relative to the project, or s3://bucket; by default `store`.

    Args:
        project: the project's folder.
        uri: overrides STORE_URI.
    Raises:
        StoreError: a kind of store that is not supported, or an endpoint that cannot be used.
    """
    uri = uri or os.environ.get("STORE_URI") or "store"
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    if uri.startswith("s3://"):
        bucket = uri.removeprefix("s3://").rstrip("/")
        if not is_bucket(bucket):
            raise StoreError(f"STORE_URI {uri} names no bucket, expected s3://NAME of 3 to 63 a-z, 0-9, . and -")
        from runner.store.s3 import S3Store

        return S3Store(bucket)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", uri):
        raise StoreError(
            f"STORE_URI {uri} is not supported, expected a folder or s3://bucket; "
            f"leave it empty for {project / 'store'}"
        )
    from runner.store.folder import FolderStore

    return FolderStore(project / Path(uri).expanduser())


def is_bucket(text: str) -> bool:
    """Whether a text can be a bucket's name."""
    return _BUCKET.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether a text can be a key."""
    return len(text) <= _MAX_KEY and _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """Return the key if it is one.

    Raises:
        StoreError: absolute, with `..`, hidden, empty, too long or with other letters than keys have.
    """
    if not is_key(key):
        raise StoreError(
            f"{key[:80]!r} is not a key, expected words of A-Z a-z 0-9 . _ - with / between, none beginning with a dot"
        )
    return key


def key_of(url: str) -> str:
    """Return the key that a `store:` URL names.

    Raises:
        StoreError: another kind of URL, or not a key behind it.
    """
    if not url.startswith(SCHEME):
        raise StoreError(
            f"{url[:80]!r} is not in the store, expected store: and a key; `python -m runner dataset add` writes it"
        )
    return check_key(url.removeprefix(SCHEME))


def mismatch(where: str, found: str, expected: str | None) -> ObjectError:
    """Return what to raise where an object has another digest than it must have."""
    return ObjectError(
        f"{where}: its sha256 is {found}, but {expected} was expected: the object was replaced or damaged, or "
        "what names it (params.yaml, a manifest) has the digest of another; add it again, or correct that"
    )


def missing(uri: str, key: str) -> MissingObjectError:
    """Return what to raise where a store has no such object."""
    return MissingObjectError(
        f"{uri}: there is no {key}; expected an object that was added or published: "
        "check the key, and that STORE_URI names the store that has it"
    )
