import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from serving.errors import Refused
from serving.upload import Budget, Part, form

KIND = "multipart/form-data; boundary=abc"
BODY = (
    b'--abc\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    b"\r\n--ab not the end\r\n\r\n--abc\r\nContent-Disposition: form-data; name=verdict\r\n\r\nmissed\r\n--abc--\r\n"
)
PART = b"--abc\r\nContent-Disposition: form-data; name=a\r\n\r\n"


def parts_of(body: bytes, *, kind: str = KIND, step: int = 1_000, budget: int = 10**9, length: str = "") -> list[Part]:
    """Read a form of at most 1,000 bytes of files that comes in pieces of `step` bytes."""
    held = Budget(budget)

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
        async with form(request, 1_000, held, 5) as parts:
            assert held.held == len(body)
            return parts

    try:
        return asyncio.run(read())
    finally:
        assert held.held == 0


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1_000])
def test_same_parts_when_it_comes_in_any_pieces(step: int) -> None:
    assert parts_of(b"--abc--\r\n", step=step) == []
    parts = parts_of(BODY, step=step)
    assert parts == [Part("file", "é.jpg", b"\r\n--ab not the end\r\n"), Part("verdict", None, b"missed")]


@pytest.mark.parametrize(
    ("status", "body", "options"),
    [
        *((400, BODY[:end], {}) for end in range(1, len(BODY) - 3, 11)),
        (400, b"--abc\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--abc--\r\n", {}),  # without a name
        (400, b"--abc\r\n\r\nx\r\n--abc--\r\n", {}),
        (400, PART.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n?") + b"\r\n--abc--\r\n", {}),
        (400, (PART + b"\r\n") * 1_001 + b"--abc--\r\n", {}),  # too many parts
        *((415, BODY, {"kind": kind}) for kind in ("", "text/plain", "multipart/form-data", "\xff")),
        (415, BODY, {"kind": "multipart/mixed; boundary=abc"}),
        (413, PART + bytes(100_000), {}),
        (413, b"", {"length": "100000"}),
        (503, BODY, {"budget": 50, "step": 10}),
    ],
)
def test_refused(status: int, body: bytes, options: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        parts_of(body, **options)
    assert caught.value.status_code == status


def test_bytes_taken_up_to_the_limit() -> None:
    budget = Budget(10)
    assert budget.take(4) and budget.take(6) and not budget.take(1)
    budget.give_back(4)
    assert budget.held == 6 and budget.take(4)
