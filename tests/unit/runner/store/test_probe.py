"""Endpoints that lose an object when it is tagged, refuse tags, or are busy for a moment."""

from __future__ import annotations

from typing import Any, BinaryIO

import pytest
from minio.error import S3Error

from runner.store.bucket import Bucket
from runner.store.probe import probe
from serving.storage.endpoint import Endpoint


class Client:
    """A client that keeps objects in memory; the tests say how it fails to tag them."""

    def __init__(self, *failures: str, loses: bool = False) -> None:
        self.failures, self.loses = list(failures), loses
        self.objects: dict[str, bytes] = {}
        self.tags: dict[str, Any] = {}

    def put_object(self, _: str, key: str, data: BinaryIO, *__: Any, **___: Any) -> None:
        self.objects[key] = data.read()

    def get_object(self, _: str, key: str) -> Any:
        if key not in self.objects:
            raise error("NoSuchKey")
        return Response(self.objects[key])

    def set_object_tags(self, _: str, key: str, tags: Any) -> None:
        if self.failures:
            raise error(self.failures.pop())
        self.tags[key] = tags
        if self.loses:
            del self.objects[key]

    def get_object_tags(self, _: str, key: str) -> Any:
        return self.tags[key]

    def list_objects(self, *_: Any, **__: Any) -> list[Any]:
        return []


class Response:
    """What a client returns for an object."""

    def __init__(self, content: bytes) -> None:
        self.content, self.headers = content, dict[str, str]()

    def read(self, *_: Any, **__: Any) -> bytes:
        return self.content

    def close(self) -> None:
        pass

    release_conn = close


def error(code: str) -> S3Error:
    return S3Error(None, code, "", "", "", "")


@pytest.mark.parametrize(
    ("client", "keeps"),
    [
        (Client(), True),
        (Client(loses=True), False),
        (Client("NotImplemented"), False),
        (Client("SlowDown"), True),  # it is tried again
    ],
)
def test_tags_are_kept_when_they_and_the_object_stay(
    client: Client, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket("things", Endpoint("http://localhost:9", None, None, None), retry_waits_s=(0,))
    bucket.client = client
    monkeypatch.setattr(bucket, "put_if_absent", lambda *_: True)
    found = probe(bucket, versioning=False)
    assert (found.tags, found.conditional_put, found.versioning) == (keeps, False, False)
