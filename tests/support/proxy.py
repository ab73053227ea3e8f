"""A proxy as companies have: it tunnels (CONNECT) to one server on loopback, whatever name it is asked for.

The names that tests ask for resolve nowhere, so a request that is answered came through here.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tests.support.answering import Handler, answering


class Proxy(NamedTuple):
    """A running proxy, and what it was asked for: host:port of a tunnel, the URL of a plain request."""

    url: str
    asked: list[str]


@contextmanager
def proxying(port: int) -> Iterator[Proxy]:
    asked: list[str] = []

    class ProxyHandler(Handler):
        def do_CONNECT(self) -> None:  # noqa: N802
            asked.append(self.path)
            with socket.create_connection(("127.0.0.1", port)) as server:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_copy, args=(server, self.connection), daemon=True)
                back.start()
                _copy(self.connection, server)
                back.join()
            self.close_connection = True

        def do_GET(self) -> None:  # noqa: N802
            asked.append(self.path)
            self.answer(502)

    with answering(ProxyHandler) as own:
        yield Proxy(f"http://127.0.0.1:{own}", asked)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
