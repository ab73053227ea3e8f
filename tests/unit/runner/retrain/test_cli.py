"""What the commands of the Tasks ask of their environment."""

from pathlib import Path

import pytest

from runner.__main__ import main

PIN = ("pin", "--model", "things", "--version", "1", "--mode", "push", "--said", "said", "--staging", "staging")
PUBLISH = ("task", "publish", "--superseded", "s", "--model", "m", "--version", "v", "--pin-mode", "p")


@pytest.mark.parametrize(
    "command",
    [
        ("task", "plan", "--answer", "answer"),
        ("task", "prepare"),
        ("task", "train", "--cache", "cache", "--fallback", "false"),
        ("task", "gate"),
        PUBLISH,
        PIN,
        ("report",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("uri", [None, ""])
def test_a_task_writes_nothing_when_it_does_not_know_the_store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    uri: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RUN", "REVISION", "REPO_URL", "BRANCH"):
        monkeypatch.setenv(name, "some")
    monkeypatch.delenv("STORE_URI", raising=False)
    if uri is not None:
        monkeypatch.setenv("STORE_URI", uri)
    assert main(list(command)) == 1
    assert "STORE_URI" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
