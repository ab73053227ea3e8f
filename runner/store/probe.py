"""Capabilities of an endpoint, tested on scratch objects that are removed afterwards."""

from __future__ import annotations

import uuid
from datetime import timedelta

from minio.commonconfig import Tags
from minio.error import MinioException

from runner.store.bucket import Bucket
from runner.store.s3 import Capabilities, S3Store
from serving.storage.endpoint import pool_of

_FIRST, _SECOND = b"first", b"second"


def probe(store: S3Store, *, versioning: bool) -> Capabilities:
    """Test a conditional PUT and tags on scratch objects."""
    bucket, prefix = store.bucket, f"scratch/{uuid.uuid4().hex}/"
    try:
        return bucket.insist(
            "its capabilities cannot be tried",
            lambda: Capabilities(
                conditional_put=_refuses_second(bucket, f"{prefix}once"),
                tags=_keeps_tags(bucket, f"{prefix}tagged"),
                versioning=versioning,
            ),
        )
    finally:
        bucket.insist("scratch objects cannot be removed", lambda: _remove(bucket, prefix, versioning))


def _refuses_second(bucket: Bucket, key: str) -> bool:
    """Whether a PUT with If-None-Match fails on an existing object, and leaves it unchanged."""
    url = bucket.client.get_presigned_url("PUT", bucket.name, key, expires=timedelta(hours=1))
    answers = [
        pool_of(bucket.endpoint).request("PUT", url, body=body, headers={"If-None-Match": "*"}).status
        for body in (_FIRST, _SECOND)
    ]
    return answers in ([200, 412], [412, 412]) and bucket.get(key, 100) == _FIRST


def _keeps_tags(bucket: Bucket, key: str) -> bool:
    """Whether an object keeps its tags, and its content while it is tagged."""
    bucket.put(key, _FIRST)
    tags = Tags.new_object_tags()
    tags["stage"] = "latest"
    try:
        bucket.client.set_object_tags(bucket.name, key, tags)
        kept = bucket.client.get_object_tags(bucket.name, key)
    except MinioException:
        return False
    noted = bucket.client.get_object(bucket.name, key)
    try:
        return dict(kept or {}) == dict(tags) and noted.read() == _FIRST
    finally:
        noted.close()
        noted.release_conn()


def _remove(bucket: Bucket, prefix: str, versioning: bool) -> None:
    listed = bucket.client.list_objects(bucket.name, prefix, recursive=True, include_version=versioning)
    for item in list(listed):
        bucket.client.remove_object(bucket.name, item.object_name, version_id=item.version_id)
