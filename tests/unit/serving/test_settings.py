"""Settings: every one is documented, and a wrong one is refused in words."""

import re
from pathlib import Path

import pytest

from serving.app import create_app
from serving.settings import Settings


def test_every_variable_documented_when_read_in_the_readme(project: Path) -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) \| (.*) \|$", (project / "serving/README.md").read_text(), re.M)
    documented = {name: (default, text) for name, default, text in rows}
    assert set(documented) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default, text = documented[name.upper()]
        assert text.startswith((field.description or "?").replace("|", "\\|")), name
        value = field.default
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert default == ("" if value is None else f"`{shown}`"), name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL_SHA256", "abc", "MODEL_SHA256: String should match"),
        ("WORKERS", "many", "WORKERS: Input should be a valid integer"),
        ("CAPTURE_STRATEGIES", "often", "CAPTURE_STRATEGIES: .*expected nothing_found"),
        ("ENVIRONMENT", "../prod", "ENVIRONMENT: String should match"),
    ],
)
def test_said_in_a_line_when_wrong(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=message):
        create_app()


def test_unset_when_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "")
    monkeypatch.setenv("MODEL_SHA256", "")
    assert Settings().api_key is None


def test_secrets_hidden_when_printed() -> None:
    shown = repr(Settings(api_key="geheim", aws_secret_access_key="geheim"))  # type: ignore[arg-type]
    assert "geheim" not in shown
