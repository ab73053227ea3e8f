"""Request bodies, read into memory, bounded in bytes and time; nothing is written to disk."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from serving.decoding.budget import MemoryBudget
from serving.errors import Refused
from serving.intake.multipart import FormReader, Part
from serving.settings import Settings

_ENVELOPE_BYTES = 65_536  # allowance for boundaries and part headers
_RAW_KINDS = ("image/", "video/", "application/octet-stream")
_PATIENCE_SECONDS = 1.0  # an upload of less age is never displaced
_EXPECTED = "expected multipart/form-data with the picture as `file`, or the picture itself as image/jpeg or the like"


class _Upload:
    """A body that is arriving."""

    def __init__(self, timeout: asyncio.Timeout, now: float) -> None:
        self.timeout, self.began, self.moved = timeout, now, now
        self.held = 0
        self.displaced = False


class Uploads:
    """Bodies in memory; where they are too many, slow ones that still arrive make room. Only for the event loop."""

    def __init__(self, limit: int) -> None:
        """Take the most bytes that all bodies may have together."""
        self.budget = MemoryBudget(limit)
        self._arriving: set[_Upload] = set()

    @asynccontextmanager
    async def arriving(self, seconds: float) -> AsyncIterator[_Upload]:
        """Give a body this many seconds to arrive; Refused: it took longer, or was displaced."""
        timeout = asyncio.timeout(seconds)
        upload = _Upload(timeout, asyncio.get_running_loop().time())
        try:
            async with timeout:
                self._arriving.add(upload)
                yield upload
        except TimeoutError as error:
            if not upload.displaced:
                raise Refused(408, f"the body did not arrive within {seconds:g} s; try again") from error
        finally:
            self._arriving.discard(upload)
        if upload.displaced:
            raise Refused(503, "too many uploads at once, and this one is slow; try again in a second", "slow")

    def take(self, upload: _Upload, count: int) -> None:
        """Reserve bytes for an upload; Refused: too many are held, and no upload is slow."""
        upload.moved = now = asyncio.get_running_loop().time()
        while not self.budget.take(count):
            arriving = (each for each in self._arriving if each is not upload and each.held)
            others = [each for each in arriving if now - each.began > _PATIENCE_SECONDS]
            if not others:
                raise Refused(503, "too many uploads at once; try again in a second")
            # The first to go are those that stand still, then those that have taken longest.
            slow = max(others, key=lambda each: (now - each.moved > _PATIENCE_SECONDS, now - each.began))
            slow.displaced = True
            slow.timeout.reschedule(now)
            self.give_back(slow)
        upload.held += count

    def give_back(self, upload: _Upload) -> None:
        """Release what an upload holds."""
        self.budget.give_back(upload.held)
        upload.held = 0


@asynccontextmanager
async def form(
    request: Request, limit: int, uploads: Uploads, settings: Settings, raw: tuple[str, ...] = _RAW_KINDS
) -> AsyncIterator[list[Part]]:
    """Yield the parts of a body; its bytes count against the limit of all uploads until the block ends.

    A body of one of the media types `raw`, such as a picture itself, is one part named `file`. Refused: neither that
    nor a multipart form, compressed, files of more than `limit` bytes together (by Content-Length, and while reading),
    other fields of more than MAX_TEXT_BYTES, slower than UPLOAD_SECONDS, or too many uploads at once.
    """
    if (encoding := request.headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
        raise Refused(415, f"the body is encoded ({encoding[:60]!r}, by Content-Encoding); expected it as it is")
    reader = _reader(request, settings.max_text_bytes, raw)
    most = limit + settings.max_text_bytes + _ENVELOPE_BYTES
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise Refused(413, f"the body has {length[:20]} bytes; expected at most {limit:,} of pictures")
    upload = None
    try:
        received = 0
        async with uploads.arriving(settings.upload_seconds) as upload:
            async for chunk in request.stream():
                if upload.displaced:
                    break
                received += len(chunk)
                if received > most:
                    raise Refused(413, f"the body has more than {limit:,} bytes; expected at most that")
                uploads.take(upload, len(chunk))
                reader.feed(chunk)
        if not reader.finished:
            raise Refused(400, "the form ends too early; expected a well-formed multipart body")
        yield reader.parts
    finally:
        if upload is not None:
            uploads.give_back(upload)


class _RawReader:
    """Reads a body that is a file itself."""

    finished = True

    def __init__(self) -> None:
        self._bytes = io.BytesIO()

    @property
    def parts(self) -> list[Part]:
        return [Part("file", "", self._bytes.getvalue())]

    def feed(self, chunk: bytes) -> None:
        self._bytes.write(chunk)


def _reader(request: Request, most_text: int, raw: tuple[str, ...]) -> FormReader | _RawReader:
    header = request.headers.get("content-type", "")
    kind, options = parse_options_header(header)
    if kind.decode("latin-1").startswith(raw):
        return _RawReader()
    if kind != b"multipart/form-data":
        said = f"the body is {header[:60]!r}" if header else "the Content-Type is missing"
        raise Refused(415, f"{said}; {_EXPECTED}")
    if not (boundary := options.get(b"boundary")):
        raise Refused(415, f"the form names no boundary in its Content-Type; {_EXPECTED}")
    return FormReader(boundary, most_text)


def files_of(parts: list[Part], name: str) -> list[Part]:
    """Return the files of a field; without a file name, a field that is text is none."""
    return [part for part in parts if part.name == name and (part.filename is not None or not _is_text(part.data))]


def refuse_others(parts: list[Part], name: str) -> None:
    """Raise Refused for a field beside the files: a parameter there would have no effect, and nobody would know."""
    if others := _others(parts, name):
        raise Refused(
            422,
            f"the form has the fields {others[:5]} beside `{name}`; expected parameters in the URL, such as "
            "?confidence=0.3, as /docs lists them",
        )


def _others(parts: list[Part], name: str) -> list[str]:
    return sorted({part.name[:50] for part in parts if part.name != name})


def _is_text(data: bytes) -> bool:
    """Whether a field holds text, such as a path: every picture has a zero, or bytes that are no UTF-8."""
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def only_file(parts: list[Part]) -> bytes:
    """Return the one file of the field `file`, or raise Refused."""
    files = files_of(parts, "file")
    if len(files) == 1:
        refuse_others(parts, "file")
        return files[0].data
    others = _others(parts, "file")
    named = f" and the fields {others[:5]}" if others else ""
    text = " (its text is no file; curl sends one with @)" if not files and len(parts) > len(others) else ""
    raise Refused(422, f"the form has {len(files)} files in `file`{text}{named}; expected one file in `file`")
