"""Endpoints that lose an object when it is tagged, refuse tags, or are busy for a moment."""

from unittest.mock import MagicMock

import pytest
from minio.error import S3Error

from runner.store.bucket import Bucket
from runner.store.init import probe
from serving.storage.endpoint import Endpoint


def error(code: str) -> S3Error:
    return S3Error(None, code, "", "", "", "")


@pytest.mark.parametrize(
    ("failures", "loses", "keeps"),
    [
        ([], False, True),
        ([], True, False),
        (["NotImplemented"], False, False),
        (["SlowDown"], False, True),  # it is tried again
    ],
)
def test_tags_are_kept_when_they_and_the_object_stay(
    failures: list[str], loses: bool, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket("things", Endpoint("http://localhost:9", None, None, None))
    bucket.retry_waits_s = (0,)
    bucket.client = client = MagicMock()
    client.set_object_tags.side_effect = [*map(error, failures), None]
    client.get_object_tags.side_effect = lambda *_: client.set_object_tags.call_args.args[2]
    content = MagicMock(headers={}, read=lambda *_, **__: client.put_object.call_args.args[2].getvalue())
    client.get_object.side_effect = error("NoSuchKey") if loses else [content]
    monkeypatch.setattr(bucket, "put_if_absent", lambda *_: True)
    found = probe(bucket, versioning=False)
    assert (found.tags, found.conditional_put, found.versioning) == (keeps, False, False)
