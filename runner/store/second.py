"""A second store beside the one of STORE_URI: that of the backups, or that which is moved.

Its variables are those of the store's own, STORE_URI and so on, with a prefix.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runner.errors import StoreError
from runner.store import Store, is_key, open_store
from runner.store.s3 import S3Store
from runner.store.transfer import transfer

if TYPE_CHECKING:
    from runner.store.folder import FolderStore

_NAMES_OTHERS = re.compile(r"models/[^/]+/(latest|[0-9]+/manifest)\.json|datasets/[^/]+/[0-9a-f]{12}\.(jsonl|json)")


class ObjectState(NamedTuple):
    """Bytes of an object, and its etag, which follows from them; empty in a folder."""

    size: int
    etag: str


def open_second(
    project: Path, prefix: str, page: str, environment: Mapping[str, str] = os.environ
) -> "FolderStore | S3Store":
    """Return the store of the variables with a prefix, such as BACKUP_; `page` is what an error refers to.

    StoreError: <prefix>STORE_URI is missing, or names the store itself. A CA_BUNDLE that is no file is none.
    """
    own = {name.removeprefix(prefix): value for name, value in environment.items() if name.startswith(prefix)}
    if not own.get("STORE_URI"):
        raise StoreError(
            f"{prefix}STORE_URI is empty, expected a folder, or s3://bucket with {prefix}AWS_ENDPOINT_URL, "
            f"{prefix}AWS_ACCESS_KEY_ID and {prefix}AWS_SECRET_ACCESS_KEY; {page}"
        )
    if not Path(own.get("CA_BUNDLE", "")).is_file():
        own.pop("CA_BUNDLE", None)
    places = ("STORE_URI", "AWS_ENDPOINT_URL")
    if all(own.get(name) == environment.get(name) for name in places):
        raise StoreError(
            f"{prefix}STORE_URI {own['STORE_URI']} is the store itself, expected another, on another server"
        )
    return open_store(project, environment=own)


def list_states(store: Store, prefix: str = "") -> Iterator[tuple[str, ObjectState]]:
    """Yield key and state of each object below a prefix."""
    if isinstance(store, S3Store):
        found = store.bucket.list(prefix)
        yield from ((key, ObjectState(info.size, info.etag)) for key, info in found if is_key(key))
    else:
        yield from ((key, ObjectState(Path(store.uri_of(key)).stat().st_size, "")) for key in store.list(prefix))


def noted_digest(store: Store, key: str) -> str:
    """Return an object's digest in hex, as a bucket noted it where it did."""
    noted = store.bucket.find(key) if isinstance(store, S3Store) else None
    return noted.sha256 if noted and noted.sha256 else store.digest(key)


def transfer_named_first(move: Callable[[str], object], sizes: Mapping[str, int], title: str) -> None:
    """Transfer as `transfer` does; what names other objects comes last, so that a kill leaves nothing incomplete."""
    for last in (False, True):
        transfer(move, {key: size for key, size in sizes.items() if bool(_NAMES_OTHERS.fullmatch(key)) is last}, title)
