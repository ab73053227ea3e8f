import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from serving.errors import Refused
from serving.intake.multipart import Part
from serving.intake.upload import Uploads, form, only_file
from serving.settings import Settings

KIND = "multipart/form-data; boundary=abc"
BODY = (
    b'--abc\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    b"\r\n--ab not the end\r\n\r\n--abc\r\nContent-Disposition: form-data; name=verdict\r\n\r\nmissed\r\n--abc--\r\n"
)
PART = b"--abc\r\nContent-Disposition: form-data; name=a\r\n\r\n"


def parts_of(body: bytes, *, kind: str = KIND, step: int = 1_000, budget: int = 10**9, length: str = "") -> list[Part]:
    """Read a form of at most 1,000 bytes of files that comes in pieces of `step` bytes."""
    uploads = Uploads(budget)

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
        async with form(request, 1_000, uploads, Settings(max_text_bytes=100)) as parts:
            assert uploads.budget.held == len(body)
            return parts

    try:
        return asyncio.run(read())
    finally:
        assert uploads.budget.held == 0


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
        (413, PART + bytes(101) + b"\r\n--abc--\r\n", {}),  # text
        (413, (PART + bytes(60) + b"\r\n") * 2 + b"--abc--\r\n", {}),
        (400, PART.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: x\r\n\r\n") + b"\r\n--abc--\r\n", {}),
        *((400, BODY, {"kind": f"multipart/form-data; boundary={'a' * length}"}) for length in (257, 5_000)),
        (415, BODY, {"kind": "application/json"}),
    ],
)
def test_refused(status: int, body: bytes, options: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        parts_of(body, **options)
    assert caught.value.status_code == status


@pytest.mark.parametrize("kind", ["image/jpeg", "image/PNG; x=y", "application/octet-stream", "video/mp4"])
def test_one_file_when_the_body_is_the_file_itself(kind: str) -> None:
    assert parts_of(b"\xff\xd8x", kind=kind, step=1) == [Part("file", "", b"\xff\xd8x")]


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        (b"filename*=utf-8''%C3%A9%20.jpg", "é .jpg"),
        (b"filename=a.jpg; filename*=UTF-8''b.jpg", "a.jpg"),
        (b"FILENAME*=utf-8'en'c.jpg", "c.jpg"),
        (b"x=y", None),
    ],
)
def test_file_named_when_the_client_names_it_otherwise(header: bytes, filename: str | None) -> None:
    body = b"--abc\r\nContent-Disposition: form-data; name=file; " + header + b"\r\n\r\n\xff\r\n--abc--\r\n"
    parts = parts_of(body)
    assert parts == [Part("file", filename, b"\xff")]
    assert only_file(parts) == b"\xff"


@pytest.mark.parametrize(
    "encoding",
    [("base64", b"AAEC"), ("base64", b"AA\r\nE\r\nC\r\n"), ("quoted-printable", b"=00=01=02"), ("BINARY", b"\0\1\2")],
)
def test_decoded_when_the_part_says_how_it_is_encoded(encoding: tuple[str, bytes]) -> None:
    head = f"--abc\r\nContent-Disposition: form-data; name=file\r\nContent-Transfer-Encoding: {encoding[0]}\r\n\r\n"
    assert parts_of(head.encode() + encoding[1] + b"\r\n--abc--\r\n")[0].data == b"\0\1\2"


def test_slow_upload_displaced_when_another_needs_its_memory() -> None:
    uploads = Uploads(100)

    async def stands_still() -> int:
        try:
            async with uploads.arriving(60) as upload:
                uploads.take(upload, 90)
                await asyncio.sleep(60)
        except Refused as error:
            return error.status_code
        return 0

    async def arrives(count: int) -> None:
        async with uploads.arriving(60) as upload:
            uploads.take(upload, count)
            uploads.give_back(upload)

    async def both() -> int:
        slow = asyncio.create_task(stands_still())
        await asyncio.sleep(0.05)
        with pytest.raises(Refused, match="too many"):  # both are young
            await arrives(50)
        await asyncio.sleep(1.1)
        await arrives(50)
        return await slow

    assert asyncio.run(both()) == 503
    assert uploads.budget.held == 0


def test_refused_when_a_field_is_a_path_and_no_file() -> None:
    with pytest.raises(Refused, match="curl"):
        only_file([Part("file", None, b"/tmp/a.jpg")])
