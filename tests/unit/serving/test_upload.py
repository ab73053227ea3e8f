"""Forms: whole in memory, in any pieces, bounded."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request

from serving.errors import Refused
from serving.upload import Budget, Part, form

KIND = "multipart/form-data; boundary=abc"
BODY = (
    b'--abc\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    b"\r\n--ab not the end\r\n\r\n--abc\r\nContent-Disposition: form-data; name=verdict\r\n\r\nmissed\r\n--abc--\r\n"
)


def parts_of(
    body: bytes,
    *,
    kind: str = KIND,
    step: int = 1_000,
    limit: int = 1_000,
    budget: Budget | None = None,
    length: str = "",
) -> list[Part]:
    budget = budget or Budget(10**9)

    async def receive() -> dict[str, object]:
        return await anext(messages)

    async def pieces() -> AsyncIterator[dict[str, object]]:
        for place in range(0, len(body), step):
            yield {"type": "http.request", "body": body[place : place + step], "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    messages = pieces()
    headers = [(b"content-type", kind.encode()), *([(b"content-length", length.encode())] if length else [])]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)

    async def read() -> list[Part]:
        async with form(request, limit, budget, 5) as parts:
            assert budget.held == len(body)
            return parts

    try:
        return asyncio.run(read())
    finally:
        assert budget.held == 0


def test_no_parts_when_the_form_is_empty() -> None:
    assert parts_of(b"--abc--\r\n") == []


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1_000])
def test_same_parts_when_it_comes_in_any_pieces(step: int) -> None:
    parts = parts_of(BODY, step=step)
    assert parts == [Part("file", "é.jpg", b"\r\n--ab not the end\r\n"), Part("verdict", None, b"missed")]


@pytest.mark.parametrize("end", [*range(1, len(BODY) - 3, 11)])
def test_400_when_it_ends_early(end: int) -> None:
    with pytest.raises(Refused, match="form") as caught:
        parts_of(BODY[:end])
    assert caught.value.status == 400


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=abc", "\xff"])
def test_415_when_it_is_no_form(kind: str) -> None:
    with pytest.raises(Refused, match="multipart/form-data") as caught:
        parts_of(BODY, kind=kind)
    assert caught.value.status == 415


def test_400_when_a_part_has_no_name() -> None:
    with pytest.raises(Refused, match="damaged"):
        parts_of(b"--abc\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--abc--\r\n")


def test_413_when_longer_than_it_may() -> None:
    long = b"--abc\r\nContent-Disposition: form-data; name=a\r\n\r\n" + bytes(100_000)
    with pytest.raises(Refused, match="more than 1,000 bytes"):
        parts_of(long)
    with pytest.raises(Refused, match="has 100000 bytes"):
        parts_of(b"", length="100000")


def test_503_when_others_hold_too_much() -> None:
    with pytest.raises(Refused, match="too many uploads") as caught:
        parts_of(BODY, budget=Budget(50), step=10)
    assert caught.value.status == 503
