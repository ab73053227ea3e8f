import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Keeps connections open and logs nothing; subclasses have do_GET and so on."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        """Answer; `_` in the name of a header stands for `-`."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def answering(handler: type[Handler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Give the port of a server until the block ends; with `tls`, it speaks https."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def receiving(*codes: int) -> Iterator[tuple[str, list[tuple[str | None, bytes]]]]:
    """Give a receiver of webhooks: its address, and the Authorization and body of each call.

    It answers with these codes in turn, the last one from then on.
    """
    calls: list[tuple[str | None, bytes]] = []

    class Receiver(Handler):
        def do_POST(self) -> None:
            calls.append((self.headers["Authorization"], self.body()))
            self.answer(codes[min(len(calls), len(codes)) - 1], Location="http://127.0.0.1:1/")

    with answering(Receiver) as port:
        yield f"http://127.0.0.1:{port}/", calls
