"""A release between two Tasks: what is published is what was staged, or nothing."""

import json
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ObjectError, StageError
from runner.release.contents import releasing
from runner.release.publish import publish
from runner.release.staging import stage, staged
from runner.store import Store, open_store
from tests.support.projects import IDENTITY, git
from tests.support.trained import Trained
from tests.support.trees import read_tree


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A committed project that the gate has judged."""
    trained = Trained(tmp_path_factory.mktemp("judged"))
    trained.judge()
    git(trained.folder, "init", "-q")
    git(trained.folder, *IDENTITY, "add", "params.yaml")
    git(trained.folder, *IDENTITY, "commit", "-qm", "one")
    return trained


@pytest.fixture
def store(judged: Trained, tmp_path: Path) -> Store:
    """A store with the staged release of run `retrain-1`."""
    store = open_store(tmp_path, str(tmp_path / "store"))
    with chdir(judged.folder), releasing(judged.folder) as release:
        stage(store, release, "retrain-1")
        stage(store, release, "retrain-1")  # a retry
    return store


def commit_of(judged: Trained) -> str:
    return str(git(judged.folder, "rev-parse", "HEAD")).strip()


def digest_of(store: Store) -> str:
    return store.digest("pipeline/retrain-1/release.json")


def test_a_version_is_the_same_when_it_is_published_from_the_stage(
    judged: Trained, store: Store, tmp_path: Path
) -> None:
    with chdir(tmp_path):
        with staged(store, "retrain-1", digest_of(store), commit=commit_of(judged), is_trial=False) as release:
            done = publish(store, release)
        direct = open_store(tmp_path, str(tmp_path / "direct"))
    with chdir(judged.folder), releasing(judged.folder) as own:
        manifest = own.manifest.model_copy(update={"gated_by": "PipelineRun retrain-1"})
        assert (manifest, own.same) == (release.manifest, release.same)
        publish(direct, own)
    assert (done.version.number, done.is_new) == (1, True)
    ours, others = (read_tree(tmp_path / name) for name in ("store", "direct"))
    fixed = {key: content for key, content in others.items() if not key.endswith((".json", "README.md"))}
    assert fixed and fixed.items() <= ours.items()
    assert {key for key in ours if not key.startswith("pipeline/")} == set(others)


FAILED = {"criterion": "size", "said": "too large", "passed": False}
Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "commit": (lambda it: it["manifest"].update(commit="0" * 40), "is of commit 0000"),
    "name": (lambda it: it["manifest"].update(name="../x"), "no name for a model"),
    "number": (lambda it: it["manifest"].update(version=7), "has a number"),
    "digests": (lambda it: it["manifest"].update(files={"best.pt": "0" * 64}), "digests already"),
    "other onnx": (lambda it: it["manifest"].update(onnx_sha256="0" * 64), "another model.onnx"),
    "no verdict": (lambda it: it["manifest"].pop("verdict"), "no verdict"),
    "verdict of another": (lambda it: it["manifest"]["verdict"].update(onnx_sha256="0" * 64), "no verdict on its"),
    "failed": (lambda it: it["manifest"]["verdict"].update(passed=True, findings=[FAILED]), "passed, but size failed"),
    "metrics": (lambda it: it["manifest"]["metrics"].update(map50=0.123), "other metrics"),
    "pin": (lambda it: it["manifest"]["params"].update(pin={"mode": "force"}), r"params .*pin\.mode"),
    "no gate": (lambda it: it["manifest"]["params"].pop("gate"), "other criteria"),
    "older verdict": (lambda it: it["manifest"]["params"]["gate"].update(max_mb=1.0), "other criteria"),
    "dataset": (lambda it: it["manifest"]["dataset"].update(url="store:../models/x"), r"dataset .*url"),
    "its digest": (lambda it: it["manifest"]["dataset"].update(sha256=7), r"dataset .*sha256"),
    "base": (lambda it: it["manifest"]["params"].update(model=["yolo11n.pt"]), r"params .*model"),
    "figures": (lambda it: it["manifest"]["metrics"].update(classes=[1]), r"metrics .*classes"),
    "a figure": (lambda it: it["manifest"]["metrics"].update(recall="<b>"), r"metrics .*recall"),
    "fewer files": (lambda it: it["files"].pop("best.pt"), "missing or odd: best.pt"),
    "more files": (lambda it: it["files"].update({"../../models/x": "0" * 64}), "missing or odd"),
    "a path for a digest": (lambda it: it["files"].update({"best.pt": "../../../x"}), "each with its sha256"),
    "another key": (lambda it: it.update(same={}), "same"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_is_given_when_it_contradicts_itself(judged: Trained, store: Store, name: str) -> None:
    change, message = CHANGES[name]
    content = json.loads(store.read("pipeline/retrain-1/release.json"))
    change(content)
    store.replace("pipeline/retrain-1/release.json", json.dumps(content).encode())
    with (
        chdir(judged.folder),
        pytest.raises(StageError, match=f"(?s)^pipeline/retrain-1/release.json: .*{message}"),
        staged(store, "retrain-1", digest_of(store), commit=commit_of(judged), is_trial=False),
    ):
        raise AssertionError("it was given")


def test_nothing_is_given_when_a_file_was_replaced_or_a_trial_says_that_it_is_none(
    judged: Trained, store: Store
) -> None:
    commit, given = commit_of(judged), json.loads(store.read("pipeline/retrain-1/release.json"))
    with chdir(judged.folder):
        with (
            pytest.raises(StageError, match="says nothing of the values"),
            staged(store, "retrain-1", digest_of(store), commit=commit, is_trial=True),
        ):
            raise AssertionError("it was given")
        with (
            pytest.raises(StageError, match="expected what gate stages"),
            staged(store, "retrain-2", "0" * 64, commit=commit, is_trial=False),
        ):
            raise AssertionError("it was given")
        store.replace(f"pipeline/retrain-1/release/{given['files']['best.pt']}", b"other")
        with (
            pytest.raises(ObjectError, match="its sha256 is"),
            staged(store, "retrain-1", digest_of(store), commit=commit, is_trial=False),
        ):
            raise AssertionError("it was given")


def test_nothing_is_given_when_another_run_replaced_it(judged: Trained, store: Store) -> None:
    """As the code of a branch could, which has the trainer's key: a verdict that no gate gave."""
    ours, content = digest_of(store), json.loads(store.read("pipeline/retrain-1/release.json"))
    content["manifest"]["verdict"]["findings"] = []
    store.replace("pipeline/retrain-1/release.json", json.dumps(content).encode())
    with (
        pytest.raises(StageError, match=f"staged {ours}"),
        staged(store, "retrain-1", ours, commit=commit_of(judged), is_trial=False),
    ):
        raise AssertionError("it was given")
