"""Limits of bytes and of rates."""

from datetime import UTC, datetime

from serving.limits import Budget, RateLimits


def test_period_named_when_its_limit_is_reached() -> None:
    limits = RateLimits(2, 3, 4)
    now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC).timestamp()
    after = (0, 0, 59, 60, 61, 3600, 7200, 86_400)
    expected = [None, None, "minute", None, "hour", None, "day", None]
    assert [limits.reached(now + seconds) for seconds in after] == expected


def test_bytes_taken_up_to_the_limit() -> None:
    budget = Budget(10)
    assert budget.take(4) and budget.take(6) and not budget.take(1)
    budget.give_back(4)
    assert budget.held == 6 and budget.take(4)
