"""Logs: one JSON object a line, whatever is in it."""

import json
import logging
import sys

from serving.logs import JsonFormatter


def line_of(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"name": "serving.x", "levelname": "INFO", "msg": message} | extra)
    return JsonFormatter().format(record)


def test_one_line_when_a_message_has_several() -> None:
    line = line_of('a\r\nb\u2028{"level": "FORGED"}', request_id="1\n2")
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["message"].startswith("a\r\nb")
    assert json.loads(line)["request_id"] == "1\n2"


def test_traceback_told_when_there_is_an_error() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        line = line_of("failed", exc_info=sys.exc_info())
    assert "\n" not in line
    assert "ValueError: why" in json.loads(line)["traceback"]
