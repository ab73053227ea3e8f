"""The store: datasets, weights and models under keys, in a folder (S3 has the same surface).

An object never changes: its key holds a digest or a number that is used once. So putting the same again is nothing,
and putting something else under a key that is taken is an error.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from runner.errors import StoreError
from runner.files import sha256_of, writing

SCHEME = "store:"
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_MAX_KEY = 1000  # [bytes] S3 allows 1,024


class Store(Protocol):
    """Where objects are kept. Keys are `/`-separated words of ASCII letters, digits, `-`, `_` and `.`."""

    uri: str

    def put_file(self, key: str, path: Path) -> bool:
        """Keep a file under a key, whole or not at all; return whether it is new.

        Raises:
            StoreError: the key is taken by other content, or not a key.
        """

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Write an object to a file, whole or not at all.

        Args:
            key: of the object.
            path: the file; its folder is made.
            sha256: the digest that the object must have, in hex; None: not checked.
        Raises:
            StoreError: there is no such object, or it has another digest; then `path` is left as it was.
        """

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted; the empty prefix gives all."""


class FolderStore:
    """A store in a folder: an object is a file, its key the path."""

    def __init__(self, folder: Path) -> None:
        """Take a folder; it need not exist before something is put into it."""
        self.folder = folder
        self.uri = str(folder)

    def put_file(self, key: str, path: Path) -> bool:
        """Keep a file under a key, whole or not at all; return whether it is new."""
        target = self.folder / check_key(key)
        if not target.exists():
            with writing(target) as temporary:
                shutil.copyfile(path, temporary)
            return True
        if sha256_of(target) != sha256_of(path):
            raise StoreError(
                f"{self.uri}: {key} is there already, with other content (sha256 {sha256_of(target)}) than {path} "
                f"(sha256 {sha256_of(path)}); objects never change: use another name, or remove that one if damaged"
            )
        return False

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Write an object to a file, whole or not at all."""
        source = self.folder / check_key(key)
        if not source.is_file():
            raise StoreError(
                f"{self.uri}: there is no {key}; expected an object that was added or published: "
                "check the key, and that STORE_URI names the store that has it"
            )
        with writing(path) as temporary:
            shutil.copyfile(source, temporary)
            check_digest(temporary, sha256, f"{self.uri}: {key}")

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        return (self.folder / check_key(key)).is_file()

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted; the empty prefix gives all."""
        top = prefix.rpartition("/")[0]
        start = self.folder / check_key(top) if top else self.folder
        keys = (
            (Path(here) / name).relative_to(self.folder).as_posix()
            for here, _, names in os.walk(start)
            for name in names
        )
        return sorted(key for key in keys if key.startswith(prefix) and _KEY.fullmatch(key))  # no unfinished files


def open_store(project: Path, uri: str | None = None) -> Store:
    """Return the store that STORE_URI names: a folder, relative to the project; by default `store`.

    Args:
        project: the project's folder.
        uri: overrides STORE_URI.
    Raises:
        StoreError: a kind of store that is not supported.
    """
    uri = uri or os.environ.get("STORE_URI") or "store"
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", uri):
        raise StoreError(
            f"STORE_URI {uri} is not supported yet, expected a folder; leave it empty for {project / 'store'}"
        )
    return FolderStore(project / Path(uri).expanduser())


def check_key(key: str) -> str:
    """Return the key if it is one.

    Raises:
        StoreError: absolute, with `..`, hidden, empty, too long or with other letters than keys have.
    """
    if len(key) > _MAX_KEY or not _KEY.fullmatch(key):
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


def check_digest(path: Path, sha256: str | None, where: str) -> None:
    """Compare a file with the digest that it must have; None: any.

    Raises:
        StoreError: it has another digest.
    """
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise StoreError(
            f"{where}: its sha256 is {found}, but {sha256} was expected: the object was replaced or damaged, or "
            "params.yaml has the digest of another version; add it again, or correct params.yaml"
        )
