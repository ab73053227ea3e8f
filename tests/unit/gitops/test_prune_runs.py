import io
import urllib.error
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.support.gitops import GITOPS, load_program

PATH = "/apis/tekton.dev/v1/namespaces/flywheel-pipelines/pipelineruns"
NOW = datetime.now(UTC)
Asked = list[tuple[str, str]]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "namespace").write_text("flywheel-pipelines")
    monkeypatch.setenv("SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.setenv("KEEP_DAYS", "30")
    return load_program(GITOPS / "pipelines/components/prune/prune_runs.py")


def run(name: str, *, days: float | None = None) -> dict[str, Any]:
    """A PipelineRun that ended so many days ago; None: it is at work."""
    ended = None if days is None else {"completionTime": f"{NOW - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"}
    return {"metadata": {"name": name}, "status": ended or {"startTime": "2020-01-01T00:00:00Z"}}


def answer(script: Any, monkeypatch: pytest.MonkeyPatch, *pages: list[dict[str, Any]], code: int = 0) -> Asked:
    """Let the API server have these runs, a page after the other, and refuse deletions with a code."""
    asked: Asked = []

    def request(path: str, method: str = "GET") -> dict[str, Any]:
        asked.append((method, path))
        if method == "GET":
            number = sum(how == "GET" for how, _ in asked)
            return {"items": pages[number - 1], "metadata": {"continue": "more"} if number < len(pages) else {}}
        if code:
            raise urllib.error.HTTPError(path, code, "no", Message(), io.BytesIO(b"forbidden"))
        return {}

    monkeypatch.setattr(script, "request", request)
    return asked


def test_old_runs_go_when_they_have_ended(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    new = [run("new", days=29), run("old", days=31), {"metadata": {"name": "not-begun"}}]
    asked = answer(script, monkeypatch, new, [run("at-work"), run("older", days=90)])
    assert script.main() == 0
    assert asked[:2] == [("GET", f"{PATH}?limit=200"), ("GET", f"{PATH}?limit=200&continue=more")]
    assert [path for method, path in asked if method == "DELETE"] == [f"{PATH}/old", f"{PATH}/older"]


@pytest.mark.parametrize(("code", "status"), [(404, 0), (403, 1)])
def test_it_fails_when_a_run_cannot_be_deleted_but_not_when_it_is_gone(
    script: Any, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    asked = answer(script, monkeypatch, [run("a", days=31), run("b", days=31)], code=code)
    assert script.main() == status
    assert [path for method, path in asked if method == "DELETE"] == [f"{PATH}/a", f"{PATH}/b"]
