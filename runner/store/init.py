"""`store init`: prepare a store and detect the capabilities of its endpoint; idempotent."""

import io
import json
import os
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from minio.commonconfig import ENABLED, Tags
from minio.deleteobjects import DeleteObject
from minio.error import MinioException
from minio.retention import GOVERNANCE, Retention
from minio.versioningconfig import VersioningConfig

from runner.errors import ObjectError, StoreError
from runner.store import open_store
from runner.store.accounts import is_minio
from runner.store.bucket import Bucket
from runner.store.expiry import set_expiry
from runner.store.folder import FolderStore
from runner.store.s3 import CAPABILITIES, Capabilities
from runner.store.users import environments_of, set_users
from serving.storage.endpoint import code_of, is_passing

CAPTURES_DAYS = 90
_UNSUPPORTED = ("NotImplemented", "MethodNotAllowed", "501", "405", "BucketAlreadyExists", "InvalidArgument")


def init_store(project: Path, *, captures_days: Mapping[str, int] | None = None, versions_days: int = 30) -> str:
    """Prepare the store of STORE_URI; return a line for each thing that was changed or left.

    The days are those after which captures of an environment ("" for all others), and earlier versions of replaced and
    removed objects, expire.
    """
    captures_days = {"": CAPTURES_DAYS, **(captures_days or {})}
    if min(*captures_days.values(), versions_days) < 1:
        raise StoreError("--captures-days and --versions-days: expected 1 or more")
    if max(captures_days.values()) > captures_days[""]:
        raise StoreError(
            f"--captures-days: no environment may keep captures longer than the others do ({captures_days['']} days), "
            "since the shorter of two S3 rules holds; raise that, and name fewer days for the other environments"
        )
    store = open_store(project)
    if isinstance(store, FolderStore):
        there = store.folder.is_dir()
        store.folder.mkdir(parents=True, exist_ok=True)
        return f"folder {store.uri}: {'there already' if there else 'made'}"
    bucket, minio = store.bucket, is_minio(store.bucket.endpoint)
    made = bucket.with_retries("the bucket cannot be made", _make, bucket)
    versions = _if_supported(bucket, "versions cannot be switched on", "what is replaced is gone", _keep_versions)
    users = os.environ.get("STORE_USERS")
    given = (captures_days, versions_days, {*filter(None, captures_days), *environments_of(users)}, minio)
    expiry = _if_supported(bucket, "expiry cannot be set", "nothing expires", set_expiry, *given)
    capabilities = probe(bucket, versioning=versions.startswith("kept"))
    conditional_put = "honoured" if capabilities.conditional_put else "not honoured; one publisher at a time"
    tags = "honoured" if capabilities.tags else "not honoured; objects stay untagged"
    lines = [f"bucket: {made}", f"versions: {versions}", f"expiry: {expiry}"]
    lock = "honoured" if capabilities.object_lock else "not honoured; the administrator's key can remove a version"
    lines += [f"conditional PUT: {conditional_put}", f"tags: {tags}", f"object lock: {lock}"]
    content = json.dumps(capabilities.model_dump(), indent=1).encode() + b"\n"
    if bucket.get(CAPABILITIES) != content:
        bucket.put(CAPABILITIES, content)
        lines.append(f"{CAPABILITIES}: written")
    lines += set_users(bucket, users)
    return "\n  ".join([f"{store.uri} at {bucket.endpoint.url}", *lines])


def _make(bucket: Bucket) -> str:
    try:
        if bucket.client.bucket_exists(bucket.name):
            return "there already"
    except MinioException as error:
        if code_of(error) != "NoSuchBucket":
            raise
    try:
        bucket.client.make_bucket(bucket.name, location=bucket.endpoint.region, object_lock=True)
    except MinioException as error:
        if code_of(error) not in _UNSUPPORTED or code_of(error) == "BucketAlreadyExists":
            raise
        bucket.client.make_bucket(bucket.name, location=bucket.endpoint.region)
    return "made"


def _keep_versions(bucket: Bucket) -> str:
    if _keeps_versions(bucket):
        return "kept already"
    bucket.client.set_bucket_versioning(bucket.name, VersioningConfig(ENABLED))
    return "kept from now on" if _keeps_versions(bucket) else "this endpoint keeps none; what is replaced is gone"


def _keeps_versions(bucket: Bucket) -> bool:
    return bool(bucket.client.get_bucket_versioning(bucket.name).status == ENABLED)


def _if_supported(bucket: Bucket, failure: str, lack: str, request: Callable[..., str], *arguments: Any) -> str:
    """Return the result of a request, or a line that the endpoint does not support it, and what is then lacking."""
    try:
        return bucket.with_retries(failure, request, bucket, *arguments)
    except StoreError as error:
        if (code := code_of(error.__cause__)) in _UNSUPPORTED:
            return f"this endpoint has none ({code}); {lack}"
        raise


def probe(bucket: Bucket, *, versioning: bool) -> Capabilities:
    """Test a conditional PUT, tags and a lock on scratch objects, which are removed afterwards."""
    prefix = f"scratch/{uuid.uuid4().hex}/"
    failure = "its capabilities cannot be tried"
    try:
        once = bucket.with_retries(failure, _passes, _refuses_second, bucket, f"{prefix}once")
        tags = bucket.with_retries(failure, _passes, _keeps_tags, bucket, f"{prefix}tagged")
        lock = versioning and bucket.with_retries(failure, _passes, _keeps_locked, bucket, f"{prefix}locked")
    finally:
        bucket.with_retries("scratch objects cannot be removed", _remove, bucket, prefix, versioning)
    return Capabilities(conditional_put=once, tags=tags, versioning=versioning, object_lock=lock)


def _passes(test: Callable[[Bucket, str], bool], bucket: Bucket, key: str) -> bool:
    """Return the result of a test; False where the endpoint refuses it or loses the object."""
    try:
        return test(bucket, key)
    except (MinioException, ObjectError, ParseError) as error:
        if is_passing(error):
            raise
        return False


def _refuses_second(bucket: Bucket, key: str) -> bool:
    """Whether a PUT with If-None-Match fails on an existing object, and leaves it unchanged."""
    bucket.put_if_absent(key, b"first")  # False when it is tried again
    return not bucket.put_if_absent(key, b"second") and bucket.get(key) == b"first"


def _keeps_tags(bucket: Bucket, key: str) -> bool:
    """Whether an object keeps its tags, and its content while it is tagged."""
    bucket.put(key, b"first")
    tags = Tags.new_object_tags()
    tags["stage"] = "latest"
    bucket.client.set_object_tags(bucket.name, key, tags)
    return bucket.client.get_object_tags(bucket.name, key) == tags and bucket.get(key) == b"first"


def _keeps_locked(bucket: Bucket, key: str) -> bool:
    """Whether a version stays while its lock lasts; the lock is lifted afterwards."""
    until = Retention(GOVERNANCE, datetime.now(UTC) + timedelta(minutes=5))
    made = bucket.client.put_object(bucket.name, key, io.BytesIO(b"first"), 5, retention=until)
    version = [DeleteObject(key, made.version_id)]
    refused = list(bucket.client.remove_objects(bucket.name, version))
    lifted = list(bucket.client.remove_objects(bucket.name, version, bypass_governance_mode=True))
    return bool(refused) and not lifted


def _remove(bucket: Bucket, prefix: str, versioning: bool) -> None:
    for item in list(bucket.client.list_objects(bucket.name, prefix, recursive=True, include_version=versioning)):
        bucket.client.remove_object(bucket.name, item.object_name, version_id=item.version_id)
