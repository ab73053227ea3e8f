"""`store init`: prepare a store and detect the capabilities of its endpoint; idempotent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from minio.commonconfig import ENABLED
from minio.error import MinioException
from minio.versioningconfig import VersioningConfig

from runner.errors import StoreError
from runner.store import open_store
from runner.store.bucket import Bucket
from runner.store.expiry import set_expiry
from runner.store.folder import FolderStore
from runner.store.probe import probe
from runner.store.s3 import CAPABILITIES, S3Store
from runner.store.users import is_minio, set_users
from serving.storage.endpoint import code_of, explain


def init_store(project: Path, *, captures_days: int = 90, versions_days: int = 30) -> str:
    """Prepare the store of STORE_URI; return a line for each thing that was changed or left.

    Args:
        captures_days: [days] after which captures expire.
        versions_days: [days] after which earlier versions of replaced and removed objects expire.
    Raises:
        StoreError: the store cannot be reached, its user lacks a permission, or a number of days is below 1.
    """
    if min(captures_days, versions_days) < 1:
        raise StoreError("--captures-days and --versions-days: expected 1 or more")
    store = open_store(project)
    if isinstance(store, FolderStore):
        there = store.folder.is_dir()
        store.folder.mkdir(parents=True, exist_ok=True)
        return f"folder {store.uri}: {'there already' if there else 'made'}"
    assert isinstance(store, S3Store)
    bucket, minio = store.bucket, is_minio(store.bucket.endpoint)
    lines = [f"{store.uri} at {bucket.endpoint.url}", f"  bucket: {_make(bucket)}"]
    versioning, said = _version(bucket)
    lines += [f"  versions: {said}", f"  expiry: {_expire(bucket, captures_days, versions_days, minio=minio)}"]
    capabilities = probe(store, versioning=versioning)
    for name, does, without in (
        ("conditional PUT", capabilities.conditional_put, "one publisher at a time"),
        ("tags", capabilities.tags, "objects stay untagged"),
    ):
        lines.append(f"  {name}: {'honoured' if does else f'not honoured; {without}'}")
    content = json.dumps(capabilities._asdict(), indent=1).encode() + b"\n"
    if bucket.get(CAPABILITIES, 1 << 20) != content:
        bucket.put(CAPABILITIES, content)
        lines.append(f"  {CAPABILITIES}: written")
    return "\n".join(lines + [f"  {line}" for line in set_users(bucket, os.environ.get("STORE_USERS"), minio=minio)])


def _make(bucket: Bucket) -> str:
    def make() -> str:
        try:
            if bucket.client.bucket_exists(bucket.name):
                return "there already"
        except MinioException as error:
            if code_of(error) != "NoSuchBucket":
                raise
        bucket.client.make_bucket(bucket.name, location=bucket.endpoint.region)
        return "made"

    return bucket.insist("the bucket cannot be made", make)


def _version(bucket: Bucket) -> tuple[bool, str]:
    def status() -> bool:
        return bool(bucket.client.get_bucket_versioning(bucket.name).status == ENABLED)

    def switch() -> str:
        if status():
            return "kept already"
        bucket.client.set_bucket_versioning(bucket.name, VersioningConfig(ENABLED))
        return "kept from now on" if status() else "this endpoint keeps none; what is replaced is gone"

    said = _where_possible(bucket, "versions cannot be switched on", switch, "what is replaced is gone")
    return said.startswith("kept"), said


def _expire(bucket: Bucket, captures_days: int, versions_days: int, *, minio: bool) -> str:
    def put() -> str:
        return set_expiry(bucket.client, bucket.name, captures_days, versions_days, minio=minio)

    return _where_possible(bucket, "expiry cannot be set", put, "nothing expires")


def _where_possible(bucket: Bucket, what: str, do: Callable[[], str], without: str) -> str:
    """Return the result of `do`, or a line that the endpoint does not support it."""

    def attempt() -> str:
        try:
            return do()
        except MinioException as error:
            code = code_of(error)
            if code in ("AccessDenied", "403"):
                raise StoreError(f"{bucket.uri}: {what}: {explain(error, bucket.endpoint)}") from error
            if code in ("NotImplemented", "MethodNotAllowed", "501", "405", "BucketAlreadyExists", "InvalidArgument"):
                return f"this endpoint has none ({code}); {without}"
            raise

    return bucket.insist(what, attempt)
