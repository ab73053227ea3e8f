"""Limits of bytes held in memory, and of captures per period."""

import threading
from collections import Counter

_PERIODS = {"minute": 60, "hour": 3_600, "day": 86_400}


class Budget:
    """Limit of the bytes held at once; thread-safe."""

    def __init__(self, limit: int) -> None:
        """Take the limit in bytes."""
        self.held = 0
        self._limit = limit
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Reserve bytes; False if that would exceed the limit."""
        with self._lock:
            if self.held + count > self._limit:
                return False
            self.held += count
            return True

    def give_back(self, count: int) -> None:
        """Release bytes."""
        with self._lock:
            self.held -= count


class RateLimits:
    """Rate limits per minute, hour and day of the clock."""

    def __init__(self, *most: int) -> None:
        """Take the limits per minute, hour and day."""
        self._most = dict(zip(_PERIODS, most, strict=True))
        self._counts: Counter[tuple[str, int]] = Counter()

    def reached(self, now: float) -> str | None:
        """Return the period whose limit is reached; None: one more is counted."""
        current = {period: (period, int(now // seconds)) for period, seconds in _PERIODS.items()}
        for period, key in current.items():
            if self._counts[key] >= self._most[period]:
                return period
        self._counts = Counter({key: self._counts[key] + 1 for key in current.values()})
        return None
