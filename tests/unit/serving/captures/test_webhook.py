from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.captures import webhook
from serving.captures.webhook import FeedbackWebhook
from serving.monitoring import Metrics
from serving.settings import Settings
from tests.support.answering import receiving
from tests.support.processes import until

SECRET = "what the listener and we know"


@contextmanager
def telling(*codes: int) -> Iterator[tuple[FeedbackWebhook, Metrics, list[tuple[str | None, bytes]]]]:
    """Give a webhook at work, its metrics, and the calls that its receiver got."""
    with receiving(*codes) as (url, calls):
        settings, metrics = Settings(feedback_webhook_url=url, feedback_webhook_secret=SECRET), Metrics()  # type: ignore[arg-type]
        it = FeedbackWebhook(settings, metrics)
        it.start()
        try:
            yield it, metrics, calls
        finally:
            it.stop()


def counted(metrics: Metrics, result: str) -> int:
    lines = metrics.text().decode().splitlines()
    line = f'flywheel_feedback_webhook_total{{result="{result}"}} '
    return sum(int(float(each.removeprefix(line))) for each in lines if each.startswith(line))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_DELAYS_SECONDS", (0.0, 0.0))


def test_the_receiver_is_called_with_the_secret_and_nothing_else_when_there_is_feedback() -> None:
    with telling(202) as (it, metrics, calls):
        it.notify()
        until(lambda: counted(metrics, "ok") == 1)
        assert calls == [(f"Bearer {SECRET}", b"{}")]
        it.notify()
        until(lambda: counted(metrics, "ok") == 2)


@pytest.mark.parametrize("code", [307, 404, 503])
def test_a_receiver_that_refuses_is_called_again_and_is_then_given_up(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    with telling(code, code, code, 202) as (it, metrics, calls):
        it.notify()
        until(lambda: counted(metrics, "failed") == 1)
        assert len(calls) == 3 and str(code) in caplog.text
        it.notify()  # the next one tells of both
        until(lambda: counted(metrics, "ok") == 1)


def test_a_receiver_that_was_away_for_a_moment_is_told() -> None:
    with telling(503, 202) as (it, metrics, calls):
        it.notify()
        until(lambda: counted(metrics, "ok") == 1)
        assert len(calls) == 2 and not counted(metrics, "failed")


def test_nothing_is_called_and_nothing_fails_when_there_is_no_receiver() -> None:
    it = FeedbackWebhook(Settings(), Metrics())
    it.start()
    it.notify()
    it.stop()
    gone = FeedbackWebhook(Settings(feedback_webhook_url="http://127.0.0.1:1/"), metrics := Metrics())
    gone.start()
    gone.notify()
    until(lambda: counted(metrics, "failed") == 1)
    gone.stop()
