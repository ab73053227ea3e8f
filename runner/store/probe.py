"""Capabilities of an endpoint, tested on scratch objects that are removed afterwards."""

import uuid
from collections.abc import Callable
from xml.etree.ElementTree import ParseError

from minio.commonconfig import Tags
from minio.error import MinioException

from runner.errors import ObjectError
from runner.store.bucket import Bucket
from runner.store.s3 import Capabilities
from serving.storage.endpoint import is_passing

_FIRST, _SECOND = b"first", b"second"


def probe(bucket: Bucket, *, versioning: bool) -> Capabilities:
    """Test a conditional PUT and tags on scratch objects."""
    prefix = f"scratch/{uuid.uuid4().hex}/"
    failure = "its capabilities cannot be tried"
    try:
        once = bucket.with_retries(failure, _passes, _refuses_second, bucket, f"{prefix}once")
        tags = bucket.with_retries(failure, _passes, _keeps_tags, bucket, f"{prefix}tagged")
    finally:
        bucket.with_retries("scratch objects cannot be removed", _remove, bucket, prefix, versioning)
    return Capabilities(conditional_put=once, tags=tags, versioning=versioning)


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
    bucket.put_if_absent(key, _FIRST)  # False when it is tried again
    return not bucket.put_if_absent(key, _SECOND) and bucket.get(key) == _FIRST


def _keeps_tags(bucket: Bucket, key: str) -> bool:
    """Whether an object keeps its tags, and its content while it is tagged."""
    bucket.put(key, _FIRST)
    tags = Tags.new_object_tags()
    tags["stage"] = "latest"
    bucket.client.set_object_tags(bucket.name, key, tags)
    return bucket.client.get_object_tags(bucket.name, key) == tags and bucket.get(key) == _FIRST


def _remove(bucket: Bucket, prefix: str, versioning: bool) -> None:
    for item in list(bucket.client.list_objects(bucket.name, prefix, recursive=True, include_version=versioning)):
        bucket.client.remove_object(bucket.name, item.object_name, version_id=item.version_id)
