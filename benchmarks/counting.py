"""Count the bytes between a command and a server, by forwarding its connections."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

CHUNK = 2**16


class ByteCounter:
    """Forwards connections of a local port to a server and counts their bytes, both ways together."""

    def __init__(self, url: str) -> None:
        """Listen on a free port of loopback."""
        at = urlsplit(url)
        self._server = (str(at.hostname), int(at.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def taken(self) -> int:
        """Return the bytes since the last call."""
        with self._lock:
            count, self.bytes = self.bytes, 0
        return count

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                target.sendall(data)
                with self._lock:
                    self.bytes += len(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def counting(url: str) -> Iterator[ByteCounter]:
    """Give a counter before a server until the block ends."""
    counter = ByteCounter(url)
    try:
        yield counter
    finally:
        counter.close()
