"""A proxy before a server that cuts a call off where a test says: before it, in the middle, or before its answer."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import httpx

from tests.support.answering import Handler, answering

Cut = Literal["before", "during", "answer", "half", "504"]
_DURING_SECONDS = 0.05


@contextlib.contextmanager
def cutting(url: str, where: Callable[[str, str], Cut | None], kill: Callable[[], None]) -> Iterator[str]:
    """Give the address of a proxy before `url`, until the block ends.

    Args:
        url: of the server.
        where: method and path → how to cut this call, or None to let it pass.
        kill: ends the server; not called for 504, which is what a gateway answers that lost patience.
    """

    class Proxy(Handler):
        def _pass(self) -> None:
            body = self.body()
            cut = where(self.command, self.path)
            if cut in ("before", "during"):
                timer = threading.Timer(0 if cut == "before" else _DURING_SECONDS, kill)
                timer.start()
                if cut == "before":
                    timer.join()
                with contextlib.suppress(httpx.HTTPError):
                    self._ask(body)
                timer.join()
                self.close_connection = True
                return
            answer = self._ask(body)
            if cut in ("answer", "half"):
                kill()
            if cut == "answer":
                self.close_connection = True
                return
            content = answer.content
            self.send_response(504 if cut == "504" else answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "content-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut == "half" else content)
            self.close_connection = cut == "half"

        def _ask(self, body: bytes) -> httpx.Response:
            headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
            return httpx.request(self.command, url + self.path, content=body, headers=headers, timeout=60)

        do_GET = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815

    with answering(Proxy) as port:
        yield f"http://127.0.0.1:{port}"
