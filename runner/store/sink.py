"""Where a download goes: to the end of a file, or nowhere; its digest is made on the way."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

CHUNK = 1 << 20  # [bytes]
_hashing = ThreadPoolExecutor(4, thread_name_prefix="hash")  # beside the network: else a third of the time


class Sink:
    """What a download is appended to, and the digest of it.

    Attributes:
        size: bytes that came so far.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        """Take a file to read and append, with the beginning that it has; None keeps the digest alone."""
        self._file = file
        self._hashed: Future[None] | None = None
        self.restart(keep=True)

    def write(self, data: bytes) -> None:
        """Append."""
        self._wait()
        if len(data) < CHUNK:
            self._hash.update(data)
        else:
            self._hashed = _hashing.submit(self._hash.update, data)
        if self._file is not None:
            self._file.write(data)
        self.size += len(data)

    def restart(self, *, keep: bool = False) -> None:
        """Begin anew, with what the file holds or with nothing."""
        self._wait()
        self.size, self._hash = 0, hashlib.sha256()
        if self._file is None:
            return
        self._file.seek(0)
        if not keep:
            self._file.truncate()
        while chunk := self._file.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """The digest of all that came, in hex."""
        self._wait()
        return self._hash.hexdigest()

    def _wait(self) -> None:
        if self._hashed is not None:
            self._hashed.result()
            self._hashed = None
