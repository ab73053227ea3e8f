"""Logs as one JSON object per line; no message can forge a line."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

_MOST_MESSAGES = 1_000
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


class Repeats(logging.Filter):
    """Drops a warning or error that was logged `most` times within the last minute, and says how many it dropped."""

    def __init__(self, most: int = 10, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._most, self._clock = most, clock
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}  # logger, message → minute, count in it

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record; requests, which are of a lower level, always are."""
        if record.levelno < logging.WARNING:
            return True
        key, minute = (record.name, str(record.msg)[:200]), int(self._clock() // 60)
        then, count = self._counts.pop(key, (minute, 0))
        if then != minute:
            if count > self._most:
                record.dropped = count - self._most  # in the minute before
            count = 0
        if len(self._counts) >= _MOST_MESSAGES:
            self._counts.clear()
        self._counts[key] = (minute, count + 1)
        return count < self._most


class JsonFormatter(logging.Formatter):
    """Formats time, level, logger, message, the keys of `extra`, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send all libraries' logs to standard error as JSON; a second call only changes the level."""
    logging.getLogger("serving").setLevel(level)
    root = logging.getLogger()
    if any(isinstance(handler.formatter, JsonFormatter) for handler in root.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Repeats())
    root.addHandler(handler)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # RequestMiddleware logs requests, with their id and without text of the sender; damaged forms are refused.
    for name in ("uvicorn.access", "python_multipart"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())
