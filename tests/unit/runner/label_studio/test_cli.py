"""The commands around Label Studio before anybody has set it up: an error for a person, a note for a CronJob."""

from __future__ import annotations

import argparse

import pytest

from runner.errors import NotSetUpError
from runner.label_studio import cli


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_parsers(parser.add_subparsers(dest="command"))
    return parser.parse_args(words)


@pytest.fixture(params=[("labels", "pull"), ("labels", "pull", "--pull-request"), ("captures", "push")], ids=" ".join)
def words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    def refuse(*_: object, **__: object) -> str:
        raise NotSetUpError("there is no project 'flyingthings'")

    for name in ("pull.pull", "pull.propose_pull", "push.push_captures"):
        monkeypatch.setattr(f"runner.label_studio.{name}", refuse)
    return tuple(request.param)


def test_it_is_an_error_when_a_person_asks_before_the_setup(words: tuple[str, ...]) -> None:
    with pytest.raises(NotSetUpError, match="flyingthings"):
        cli.run(parse(*words))


def test_it_ends_well_and_says_why_when_a_cron_job_asks_before_the_setup(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(parse(*words, "--if-set-up")) == 0
    assert "flyingthings" in capsys.readouterr().out
