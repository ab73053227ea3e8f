"""A proxy on loopback that cuts connections, counts bytes, or calls back in the middle of a transfer."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CHUNK = 64 << 10


@dataclass
class Proxy:
    """Hands on what it is sent to another server."""

    target: int  # port on loopback
    cut_every: int = 0  # each so-manieth connection is cut while it answers; 0: none
    after: int = 0  # bytes, in both directions together, after which `then` is called, once
    then: Callable[[], object] | None = None  # the transfer waits for it
    port: int = 0
    connections: int = 0
    cuts: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL is."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                cut = self.cut_every and self.connections % self.cut_every == 0
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=30)
            except OSError:
                client.close()
                continue
            for source, sink, cuts in ((client, server, False), (server, client, bool(cut))):
                threading.Thread(target=self._hand_on, args=(source, sink, cuts), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket, cut: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                with self._lock:
                    self.bytes += len(data)
                    if self.then and self.bytes >= self.after:
                        due, self.then = self.then, None
                        due()
                if cut:
                    self.cuts += 1
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def proxying(url: str, **options: object) -> Iterator[Proxy]:
    """A proxy before the server at a URL until the block ends; `options` as in Proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(urlsplit(url).port or 0, port=listener.getsockname()[1], **options)  # type: ignore[arg-type]
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        yield proxy
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # else accept goes on
