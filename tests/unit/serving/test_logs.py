import json
import logging
import sys

import pytest

from serving.logs import JsonFormatter, Repeats


def line_of(message: str, **extra: object) -> dict[str, str]:
    record = logging.makeLogRecord({"name": "serving.x", "levelname": "INFO", "msg": message} | extra)
    line = JsonFormatter().format(record)
    assert line.isascii() and "\n" not in line
    return dict(json.loads(line))


def test_one_line_when_a_message_has_several() -> None:
    message = 'a\r\nb\u2028{"level": "FORGED"}'
    line = line_of(message, request_id="1\n2")
    assert (line["level"], line["message"], line["request_id"]) == ("INFO", message, "1\n2")


def test_traceback_told_when_there_is_an_error() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        line = line_of("failed", exc_info=sys.exc_info())
    assert "ValueError: why" in line["traceback"]


@pytest.mark.parametrize(("level", "logged"), [(logging.INFO, 50), (logging.WARNING, 3), (logging.ERROR, 3)])
def test_few_lines_when_a_warning_comes_again_and_again(level: int, logged: int) -> None:
    now = [60.0]
    repeats = Repeats(3, clock=lambda: now[0])
    record = logging.LogRecord("asyncio", level, "x", 1, "out of %s", ("files",), None)
    assert sum(repeats.filter(record) for _ in range(50)) == logged
    other = logging.LogRecord("asyncio", level, "x", 1, "another", (), None)
    assert repeats.filter(other)
    now[0] = 125
    assert repeats.filter(record)
    assert getattr(record, "dropped", 0) == 50 - logged


def test_little_kept_in_mind_when_every_warning_is_another() -> None:
    repeats = Repeats(3, clock=lambda: 0)
    for number in range(5_000):
        assert repeats.filter(logging.LogRecord("a", logging.ERROR, "x", 1, str(number), (), None))
    assert len(repeats._counts) <= 1_000
