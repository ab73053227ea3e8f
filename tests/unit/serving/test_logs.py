import json
import logging
import sys

from serving.logs import JsonFormatter


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
