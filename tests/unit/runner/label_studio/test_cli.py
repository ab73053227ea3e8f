import argparse
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from runner.errors import LabelStudioError, NotSetUpError
from runner.label_studio import cli
from runner.label_studio.server import connected


@pytest.mark.parametrize("words", ["labels pull", "labels pull --pull-request", "captures push"])
def test_it_is_an_error_unless_a_cron_job_asks(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse = MagicMock(side_effect=NotSetUpError("there is no project 'flyingthings'"))
    for name in ("pull.pull", "push.push_captures"):
        monkeypatch.setattr(f"runner.label_studio.{name}", refuse)
    parser = argparse.ArgumentParser()
    cli.add_parsers(parser.add_subparsers(dest="command"))
    with pytest.raises(NotSetUpError, match="flyingthings"):
        cli.run(parser.parse_args(words.split()))
    assert cli.run(parser.parse_args([*words.split(), "--if-set-up"])) == 0
    assert "flyingthings" in capsys.readouterr().out


def test_suspects_are_not_looked_for_when_label_studio_which_is_to_review_them_is_not_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    parser = argparse.ArgumentParser()
    cli.add_parsers(parser.add_subparsers(dest="command"))
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_URL"):
        cli.run(parser.parse_args(["labels", "suspects", "--review", "2"]))


def test_the_file_of_certificates_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "https://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    monkeypatch.setenv("CA_BUNDLE", "/gone.pem")
    with pytest.raises(LabelStudioError, match=r"CA_BUNDLE is '/gone\.pem'"), connected():
        pass
