"""A call after feedback was stored, so that annotators have it soon; without it the next `captures push` finds it."""

import logging
import threading

from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage.endpoint import endpoint_of_environment

log = logging.getLogger(__name__)
_QUIET_SECONDS = 10.0  # that the receiver may send nothing
_DELAYS_SECONDS = (1.0, 5.0, 25.0)  # before the next try


class FeedbackWebhook:
    """Calls FEEDBACK_WEBHOOK_URL from a thread of its own, so that no answer waits for it.

    The call has no content, and the secret as bearer token. All that is reported while a call is at work is told by
    one more.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._url = settings.feedback_webhook_url
        secret = settings.feedback_webhook_secret
        self._headers = {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret else {}
        self._ca_bundle = endpoint_of_environment().ca_bundle
        self._calls = metrics.feedback_webhook
        self._news, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="feedback-webhook", daemon=True)

    def start(self) -> None:
        """Start the thread, where there is an address."""
        if self._url:
            self._thread.start()

    def stop(self) -> None:
        """End after the call that is at work; what nobody was told of waits for the next `captures push`."""
        if self._thread.is_alive():
            self._stop.set()
            self._news.set()
            self._thread.join(_QUIET_SECONDS)

    def notify(self) -> None:
        """Let the receiver be called, without waiting."""
        self._news.set()

    def _run(self) -> None:
        while self._news.wait() and not self._stop.is_set():
            self._news.clear()
            problem = self._call()
            for delay in _DELAYS_SECONDS:
                if not problem or self._stop.wait(delay):
                    break
                problem = self._call()
            self._calls.labels("failed" if problem else "ok").inc()
            if problem:
                log.warning("FEEDBACK_WEBHOOK_URL could not be told of feedback: %s", problem)

    def _call(self) -> str:
        """Call the receiver once; return why it was not told, empty where it was. No redirect is followed."""
        import urllib3  # only where it is used, as in storage.endpoint
        from urllib3.exceptions import HTTPError

        assert self._url
        try:
            with urllib3.PoolManager(timeout=_QUIET_SECONDS, retries=False, ca_certs=self._ca_bundle) as pool:
                answer = pool.request("POST", self._url, body=b"{}", headers=self._headers, redirect=False)
                return "" if 200 <= answer.status < 300 else f"it answers {answer.status}"
        except (HTTPError, OSError) as error:
            return f"{type(error).__name__}: {error}"
