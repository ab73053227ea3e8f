"""Multipart forms, parsed as their bytes arrive; every part stays in memory."""

import io
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from python_multipart.decoders import Base64Decoder, QuotedPrintableDecoder
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import Refused

FILE_FIELDS = ("file", "files")
_MAX_PARTS = 1_000
_PLAIN = (b"", b"binary", b"8bit", b"7bit")
_DECODERS: dict[bytes, type[Base64Decoder] | type[QuotedPrintableDecoder]] = {
    b"base64": Base64Decoder,
    b"quoted-printable": QuotedPrintableDecoder,
}
# RFC 5987's form, which RFC 7578 forbids in forms; some clients send it for names that are not ASCII, and only it.
_EXTENDED = re.compile(rb"filename\*\s*=\s*[\w-]+'[^']*'([^;\s]+)", re.IGNORECASE)


class Part(NamedTuple):
    """Field of a form."""

    name: str
    filename: str | None  # as sent; None where there is none
    data: bytes


class FormReader:
    """Collects the parts of a form as its bytes arrive."""

    def __init__(self, boundary: bytes, most_text: int) -> None:
        """Expect this boundary, and at most this many bytes in all fields that are no file; or raise Refused."""
        self.parts: list[Part] = []
        self.finished = False
        self._text_left = self._most_text = most_text
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = b"", b""
        self._name, self._bytes = "", io.BytesIO()
        self._filename: str | None = None
        self._decoder: Base64Decoder | QuotedPrintableDecoder | None = None
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_to_field,
                    "on_header_value": self._add_to_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._add_data,
                    "on_part_end": self._close,
                    "on_end": self._finish,
                },
            )
        except FormParserError as error:
            raise Refused(
                400, f"the form's boundary has {len(boundary)} characters; expected at most 70, as RFC 2046 says"
            ) from error

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; a damaged form, or one with too much text, raises Refused."""
        try:
            if chunk:
                self._parser.write(chunk)
        except (FormParserError, ValueError) as error:
            raise Refused(400, "the form is damaged; expected a well-formed multipart body") from error

    def write(self, data: bytes) -> int:
        """Add data to the open part: the decoders of Content-Transfer-Encoding call it."""
        if self._name not in FILE_FIELDS:
            self._text_left -= len(data)
            if self._text_left < 0:
                raise Refused(
                    413,
                    f"the fields that are no file have more than {self._most_text:,} bytes, with {self._name[:50]!r}; "
                    "expected at most that, and a picture in `file`",
                )
        return self._bytes.write(data)

    def finalize(self) -> None:
        """Do nothing: what a decoder calls at the end of a part."""

    def _begin(self) -> None:
        if len(self.parts) >= _MAX_PARTS:
            raise ValueError("too many parts")
        self._headers.clear()

    def _add_to_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value.strip(b" \t")
        self._field = self._value = b""

    def _open(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        options = parse_options_header(disposition)[1]
        if b"name" not in options:
            raise ValueError("a part without a name")
        filename, extended = options.get(b"filename"), _EXTENDED.search(disposition)
        if filename is None and extended:
            filename = unquote_to_bytes(extended[1])
        self._name = options[b"name"].decode("utf-8", "replace")
        self._filename = None if filename is None else filename.decode("utf-8", "replace")
        self._bytes = io.BytesIO()
        encoding = self._headers.get(b"content-transfer-encoding", b"").lower()
        if encoding not in _PLAIN and encoding not in _DECODERS:
            raise ValueError("an unknown Content-Transfer-Encoding")
        self._decoder = _DECODERS[encoding](self) if encoding in _DECODERS else None

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = data[start:end]
        if isinstance(self._decoder, Base64Decoder):
            part = part.translate(None, b"\r\n\t ")  # lines of 76 characters, as RFC 2045 wants them
        (self._decoder or self).write(part)

    def _close(self) -> None:
        if self._decoder:
            self._decoder.finalize()
        self.parts.append(Part(self._name, self._filename, self._bytes.getvalue()))

    def _finish(self) -> None:
        self.finished = True
