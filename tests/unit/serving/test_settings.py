import os
import re
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from serving.app import create_app
from serving.settings import Settings
from serving.storage.endpoint import endpoint_of_environment


def test_every_variable_documented_in_the_readme(project: Path) -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) \| (.*) \|$", (project / "serving/README.md").read_text(), re.M)
    (environment := MagicMock()).get.return_value = None
    endpoint_of_environment(environment)
    texts = {name: text for name, _, text in rows}
    expected = {(call.args[0], "", texts.get(call.args[0])) for call in environment.get.call_args_list}
    for name, field in Settings.model_fields.items():
        value = field.default
        text = (field.description or "?").replace("|", "\\|")
        expected.add((name.upper(), "" if value is None else f"`{value}`", text))
    assert set(rows) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL_SHA256", "abc", "pattern"),
        ("WORKERS", "many", "integer"),
        ("CAPTURE_STRATEGIES", "often", "'often' .*nothing_found"),
        ("ENVIRONMENT", "../prod", "pattern"),
        ("MODEL_URI", "https://models.example.org/a.onnx", "https://.*s3://bucket"),
        ("CAPTURE_URI", "http://minio:9000/captures", "http://.*s3://bucket"),
        ("SHADOW_URI", "s3:///a.onnx", "no bucket"),
        ("MODEL_VERSION", os.fsdecode(b"caf\xe9"), "UTF-8"),
        ("API_KEY", os.fsdecode(b"\xff"), "UTF-8"),
        ("DECODE_SECONDS", "1" + "0" * 30, "86400"),
        ("CAPTURE_REDACT", "0 0 1 2", "'0 0 1 2': expected x1 y1 x2 y2"),
        ("CAPTURE_REDACT", "no_such_module:hide", "cannot be imported"),
    ],
)
def test_said_in_a_line_when_wrong(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^error: {name}: .*{message}"):
        create_app()


def test_unset_when_empty_and_hidden_when_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "")
    monkeypatch.setenv("MODEL_SHA256", "")
    assert Settings().api_key is None
    assert "geheim" not in repr(Settings(api_key="geheim"))  # type: ignore[arg-type]
