"""Start and stop of the server, and its draining at SIGTERM."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from serving.state import State

_DECODING_SECONDS = 2.0  # that a decoder process may go on when the server stops


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the background threads; at the end stop them."""
    state: State = app.state.server
    state.loader.start()
    state.decoding.start()
    state.captures.start()
    state.feedback_webhook.start()
    state.shadow.start()
    restore = _drain_at_sigterm(state)
    try:
        yield
    finally:
        restore()
        state.draining = True
        state.loader.stop()
        await state.jobs.stop()
        await asyncio.to_thread(state.workers.stop)
        await asyncio.to_thread(state.shadow.stop)
        await asyncio.to_thread(state.captures.stop)
        await asyncio.to_thread(state.feedback_webhook.stop)
        await asyncio.to_thread(state.decoding.stop)
        if state.traces:
            await asyncio.to_thread(state.traces.stop)


def _drain_at_sigterm(state: State) -> Callable[[], object]:
    """At SIGTERM, report "not ready" but keep answering; then let uvicorn finish the requests in flight and stop.

    A cluster keeps sending requests for a moment after it has told a server to stop. The returned function restores
    the former signal handler.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(stop):
        return lambda: None
    loop = asyncio.get_running_loop()

    def begin() -> None:
        state.draining = True
        state.jobs.close()
        loop.call_later(state.settings.drain_seconds, stop, signal.SIGTERM, None)
        # What decodes for so long is no usual picture, and must not delay the end.
        loop.call_later(state.settings.drain_seconds + _DECODING_SECONDS, state.decoding.refuse)

    loop.add_signal_handler(signal.SIGTERM, begin)
    return lambda: signal.signal(signal.SIGTERM, stop)
