"""Multipart uploads, parsed in memory, bounded in bytes and time; nothing is written to disk."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.requests import Request

from serving.errors import Refused

_ENVELOPE_BYTES = 65_536  # allowance for boundaries, part headers and small fields
_MAX_PARTS = 1_000


class Part(NamedTuple):
    """Field of a form."""

    name: str
    filename: str | None  # as sent; None where the field is not a file
    data: bytes


class Budget:
    """Limit of the bytes held at once; thread-safe."""

    def __init__(self, limit: int) -> None:
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

    Refused: not a multipart form, files of more than `limit` bytes together (by Content-Length, and while reading),
    slower than `seconds`, or over the budget.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Refused(415, "the body is not a form; expected multipart/form-data with the picture as `file`")
    most = limit + _ENVELOPE_BYTES
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise Refused(413, f"the body has {length} bytes; expected at most {limit:,} of pictures")
    reader = _Reader(boundary)
    held = 0
    try:
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    if held + len(chunk) > most:
                        raise Refused(413, f"the body has more than {limit:,} bytes; expected at most that")
                    if not budget.take(len(chunk)):
                        raise Refused(503, "too many uploads at once; try again in a second")
                    held += len(chunk)
                    reader.feed(chunk)
        except TimeoutError as error:
            raise Refused(408, f"the body did not arrive within {seconds:g} s; try again") from error
        if not reader.finished:
            raise Refused(400, "the form ends too early; expected a well-formed multipart body")
        yield reader.parts
    finally:
        budget.give_back(held)


def files_of(parts: list[Part], name: str) -> list[Part]:
    """Return the files of a field."""
    return [part for part in parts if part.name == name and part.filename is not None]


def only_file(parts: list[Part]) -> bytes:
    """Return the one file of the field `file`, or raise Refused."""
    files = files_of(parts, "file")
    if len(files) != 1:
        raise Refused(422, f"the form has {len(files)} files in `file`; expected one")
    return files[0].data


class _Reader:
    """Collects parts as the body arrives."""

    def __init__(self, boundary: bytes) -> None:
        self.parts: list[Part] = []
        self.finished = False
        in_memory = {"MAX_MEMORY_FILE_SIZE": math.inf}
        self._parser = FormParser(
            "multipart/form-data", self._add_field, self._add_file, self._finish, boundary, config=in_memory
        )

    def feed(self, chunk: bytes) -> None:
        try:
            if chunk:
                self._parser.write(chunk)
        except (FormParserError, ValueError) as error:
            raise Refused(400, "the form is damaged; expected a well-formed multipart body") from error

    def _add_field(self, field: Field) -> None:
        self._add(field.field_name, None, field.value or b"")

    def _add_file(self, file: File) -> None:
        file.file_object.seek(0)
        self._add(file.field_name, file.file_name, file.file_object.read())

    def _add(self, name: bytes | None, filename: bytes | None, data: bytes) -> None:
        if len(self.parts) >= _MAX_PARTS:
            raise ValueError("too many parts")
        shown = None if filename is None else filename.decode("utf-8", "replace")
        self.parts.append(Part((name or b"").decode("utf-8", "replace"), shown, data))

    def _finish(self) -> None:
        self.finished = True
