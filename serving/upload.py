"""Multipart uploads, parsed in memory, bounded in bytes and time; nothing is written to disk."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from serving.errors import Refused

_ENVELOPE_BYTES = 65_536  # allowance for boundaries, part headers and small fields
_MAX_PARTS = 1_000


@dataclass(frozen=True)
class Part:
    """Field of a form.

    Attributes:
        filename: as sent; None where the field is not a file.
    """

    name: str
    filename: str | None
    data: bytes


class Budget:
    """Limit of the bytes held at once; thread-safe."""

    def __init__(self, limit: int) -> None:
        """Take the limit in bytes."""
        self.held = 0
        self._limit = limit
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Reserve bytes; False if that would exceed the limit."""
        with self._lock:
            if self.held + count > self._limit:
                return False
            self.held += count
            return True

    def give_back(self, count: int) -> None:
        """Release bytes."""
        with self._lock:
            self.held -= count


@asynccontextmanager
async def form(request: Request, limit: int, budget: Budget, seconds: float) -> AsyncIterator[list[Part]]:
    """Yield the parts of a multipart body; its bytes count against the budget until the block ends.

    Args:
        request: its body must not have been read.
        limit: bytes of all files together; enforced by Content-Length and while reading.
        budget: shared by all requests.
        seconds: time for the body to arrive.
    Raises:
        Refused: too large, too slow, too much at once, or not a multipart form.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Refused(
            415, "unsupported", "the body is no form; expected multipart/form-data with the picture as `file`"
        )
    most = limit + _ENVELOPE_BYTES
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise Refused(413, "too_large", f"the body has {length} bytes; expected at most {limit:,} of pictures")
    reader = _Reader(boundary)
    held = 0
    try:
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    if held + len(chunk) > most:
                        raise Refused(
                            413, "too_large", f"the body has more than {limit:,} bytes; expected at most that"
                        )
                    if not budget.take(len(chunk)):
                        raise Refused(503, "busy", "too many uploads at once; try again in a second")
                    held += len(chunk)
                    reader.feed(chunk)
        except TimeoutError as error:
            raise Refused(408, "slow", f"the body did not arrive within {seconds:g} s; try again") from error
        if not reader.finished:
            raise Refused(400, "unreadable", "the form ends too early; expected a well-formed multipart body")
        yield reader.parts
    finally:
        budget.give_back(held)


class _Reader:
    """Collects parts as the body arrives."""

    def __init__(self, boundary: bytes) -> None:
        self.parts: list[Part] = []
        self.finished = False
        self.begin()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self.begin,
                "on_header_field": self.header_field,
                "on_header_value": self.header_value,
                "on_header_end": self.header_end,
                "on_part_data": self.part_data,
                "on_part_end": self.end,
                "on_end": self.finish,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            if chunk:
                self._parser.write(chunk)
        except (FormParserError, ValueError) as error:
            raise Refused(400, "unreadable", "the form is damaged; expected a well-formed multipart body") from error

    def begin(self) -> None:
        self._field, self._value = b"", b""
        self._disposition = b""
        self._chunks: list[bytes] = []

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise ValueError("a part without a name")
        if len(self.parts) >= _MAX_PARTS:
            raise ValueError("too many parts")
        filename = options.get(b"filename")
        self.parts.append(
            Part(
                options[b"name"].decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks),
            )
        )

    def finish(self) -> None:
        self.finished = True
