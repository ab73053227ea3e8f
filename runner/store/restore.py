"""Earlier versions of an object in a bucket that keeps them: what `store verify --restore` brings back."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import NamedTuple

from minio.commonconfig import CopySource

from runner.store import Store
from runner.store.bucket import Bucket, retention
from runner.store.s3 import S3Store
from runner.store.sink import CHUNK
from serving.storage.signature import SignatureError, Signers, verify


class ObjectVersion(NamedTuple):
    """A version of an object; `etag` follows from its bytes."""

    id: str
    etag: str
    stored: datetime


def bucket_of(store: Store) -> Bucket | None:
    """Return the store's bucket where it keeps versions."""
    return store.bucket if isinstance(store, S3Store) and store.capabilities.versioning else None


def versions_below(bucket: Bucket, prefix: str) -> dict[str, list[ObjectVersion]]:
    """Return the versions of the objects whose keys begin so, each oldest first, without marks of removals."""

    def listed() -> dict[str, list[ObjectVersion]]:
        found: dict[str, list[ObjectVersion]] = {}
        for item in bucket.client.list_objects(bucket.name, prefix, recursive=True, include_version=True):
            if item.object_name and item.last_modified and not item.is_delete_marker:
                version = ObjectVersion(str(item.version_id), item.etag or "", item.last_modified)
                found.setdefault(item.object_name, []).append(version)
        return found

    found = bucket.with_retries(f"versions of {prefix} cannot be listed", listed)
    # Newest first in a listing, and SeaweedFS says the second alone.
    return {key: sorted(reversed(versions), key=lambda version: version.stored) for key, versions in found.items()}


def restored(bucket: Bucket, key: str, sha256: str) -> datetime | None:
    """Bring back an object's newest version whose digest begins so; return when it was stored; None: there is none."""
    return _restored(bucket, key, lambda chunks: _digest(chunks).startswith(sha256))


def restored_signature(bucket: Bucket, key: str, files: Mapping[str, str], signers: Signers) -> datetime | None:
    """Bring back a version's newest signature that is valid for its files, name → sha256; return as `restored`."""

    def is_valid(chunks: Iterator[bytes]) -> bool:
        try:
            verify(b"".join(chunks), files, signers)
        except SignatureError:
            return False
        return True

    return _restored(bucket, key, is_valid)


def _restored(bucket: Bucket, key: str, fits: Callable[[Iterator[bytes]], bool]) -> datetime | None:
    def is_right(version: ObjectVersion) -> bool:
        with closing(bucket.client.get_object(bucket.name, key, version_id=version.id)) as response:
            return fits(response.stream(CHUNK, decode_content=False))

    for version in reversed(versions_below(bucket, key).get(key, [])):
        if bucket.with_retries(f"a version of {key} cannot be read", is_right, version):
            copy_back(bucket, key, version)
            return version.stored
    return None


def copy_back(bucket: Bucket, key: str, version: ObjectVersion) -> None:
    """Make an earlier version of an object the current one, locked as before where the bucket has locks."""
    is_locked = S3Store(bucket.name, bucket.endpoint).capabilities.object_lock
    source = CopySource(bucket.name, key, version_id=version.id)
    bucket.with_retries(
        f"{key} cannot be restored",
        lambda: bucket.client.copy_object(bucket.name, key, source, retention=retention() if is_locked else None),
    )


def _digest(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def overwritten(store: Store) -> Iterator[tuple[str, ObjectVersion]]:
    """Yield each manifest whose bytes are not those that it was published with, and the version that has them.

    Nothing in the store names a manifest's digest; the oldest version is the published one, as it is put once.
    """
    bucket = bucket_of(store)
    for key, versions in versions_below(bucket, "models/").items() if bucket else ():
        if key.endswith("/manifest.json") and versions[-1].etag != versions[0].etag:
            yield key, versions[0]
