import errno
import getpass
import os
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from runner.__main__ import main
from runner.stages.registry import STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_written_when_a_stage_starts_elsewhere_than_in_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([stage]) == 1
    assert f"error: {tmp_path} has no params.yaml" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_page_of_help_says_what_its_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    pages = {}
    for path in (["plan"], ["dataset"], ["dataset", "add"], ["store", "gc"], ["models", "sign"], ["task", "pin"]):
        with pytest.raises(SystemExit, match="0"):
            main([*path, "--help"])
        usage, description, *_ = capsys.readouterr().out.split("\n\n")
        assert usage.startswith(f"usage: python -m runner {' '.join(path)}")
        pages[description] = path
    assert len(pages) == 6 and not [text for text in pages if text.startswith(("positional", "options"))]


def test_the_first_reason_stands_when_a_stage_and_the_task_around_it_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    monkeypatch.setenv("RUNNER_RESULTS", str(tmp_path))
    assert main(["split"]) == main(["export"]) == 1
    assert "error: artifacts/config/split.yaml is missing; run `dvc repro split`" in capsys.readouterr().err
    assert (tmp_path / "error").read_text().startswith("artifacts/config/split.yaml is missing")


def test_the_package_is_named_when_an_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "dvc.repo", None)
    monkeypatch.setitem(sys.modules, "dvc", None)

    missing = ModuleNotFoundError("No module named 'torch'", name="torch")
    monkeypatch.setattr("runner.stages.registry.run_stage", MagicMock(side_effect=missing))
    assert main(["train"]) == 1
    assert "error: train needs the package torch, which is not installed; run `make setup`" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("file", ["artifacts/x", None])
def test_the_disk_is_named_when_writing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, file: str | None
) -> None:
    error = OSError(number, os.strerror(number), file)
    monkeypatch.setattr("runner.stages.registry.run_stage", MagicMock(side_effect=error))
    assert main(["prepare"]) == 1
    where = file or f"writing below {Path.cwd()}"
    assert f"error: {where}: {os.strerror(number)}; free some space or change" in capsys.readouterr().err


def test_a_stopped_training_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runner.stages.registry.run_stage", MagicMock(side_effect=KeyboardInterrupt))
    assert main(["train"]) == main(["split"]) == 130
    assert capsys.readouterr().err.count("`dvc repro`") == 1


def test_a_command_has_a_user_name_when_its_uid_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1000850000)  # of the range of an OpenShift project
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    monkeypatch.setattr("runner.stages.registry.run_stage", lambda stage: None)
    monkeypatch.setenv("USER", "")  # so that the fixture undoes what main sets
    assert main(["prepare"]) == 0
    assert getpass.getuser() == "uid-1000850000"


def test_a_bug_stays_a_traceback_when_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.stages.registry.run_stage", MagicMock(side_effect=KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        main(["prepare"])


def test_store_is_made_and_verified_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORE_URI", "kept")
    assert main(["store", "init"]) == main(["store", "verify"]) == 0
    assert main(["models", "sign"]) == main(["models", "sign", "--model", "kites"]) == 1
    made, *_, found = capsys.readouterr().out.splitlines()
    assert (made, found) == (f"folder {tmp_path}/kept: made", "0 objects of 0 versions hashed, 0 errors")
    (tmp_path / "kept" / "weights").mkdir()
    (tmp_path / "kept" / "weights" / "0123456789ab-yolo11n.pt").write_bytes(b"other")
    assert main(["store", "verify"]) == 1
    assert "FAIL  " in capsys.readouterr().out
    assert main(["store", "policy", "runner"]) == 1
    assert f"error: {tmp_path}/kept is a folder, which has no users" in capsys.readouterr().err
    monkeypatch.setenv("STORE_URI", "s3://planes")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert main(["store", "policy", "labels"]) == 0
    assert '"arn:aws:s3:::planes/datasets/*"' in capsys.readouterr().out
