"""The whole path on a real store: a dataset becomes a model that a server runs, then another, then the first again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.sample import draw_sample
from tests.support.person import PARAMS, Person
from tests.support.projects import Run, copy_project, set_params
from tests.support.s3 import S3
from tests.support.servers import running

pytestmark = pytest.mark.slow


def served(person: Person, folder: Path) -> dict[str, Any]:
    """The model that a server answers with, when it is given what is pinned and the store's key."""
    folder.mkdir()
    picture = next((person.folder / "artifacts/raw/images").iterdir()).read_bytes()
    store = {name: value for name, value in person.environment.items() if name != "STORE_URI"}
    with running(folder, **person.pin(), **store) as server:
        answer = server.post("/detect", picture)
        assert answer.status == 200, answer.body
        model: dict[str, Any] = answer.json()["model"]
        assert model["commit"] == person.pin()["MODEL_COMMIT"]
        return model


def test_the_server_answers_with_what_is_pinned_when_a_loop_runs(
    project: Path, environment: dict[str, str], minio: S3, run: Run, tmp_path: Path
) -> None:
    bucket = {**minio.environment("loop"), "DVC_NO_ANALYTICS": "1"}
    first = Person(copy_project(project, tmp_path / "erster ü" / "flywheel", environment), run, bucket)
    (tmp_path / "birds").mkdir()
    draw_sample(tmp_path / "birds", pictures=40, seed=0)
    set_params(first.folder, PARAMS)
    first.runner("store", "init")
    first.runner("store", "use")
    assert "store:datasets/birds/" in first.runner("dataset", "add", str(tmp_path / "birds"))
    first.git("add", "-A")
    first.git("commit", "-qm", "birds")
    first.trains("one epoch")
    one = served(first, tmp_path / "server 1")
    assert (one["name"], one["version"]) == ("loop", "1")

    # Somebody else, on another machine, has the repository and the store's key.
    run("git", "clone", "-q", str(first.folder), str(tmp_path / "clone"), cwd=tmp_path)
    second = Person(tmp_path / "clone", run, bucket)
    second.runner("store", "use")
    assert "Running stage" not in second.does("dvc", "repro", "--pull").replace("Running stage 'fetch'", "")
    for name in ("export/model.onnx", "evaluation/metrics.json", "model/best.pt"):
        assert (second.folder / "artifacts" / name).read_bytes() == (first.folder / "artifacts" / name).read_bytes()
    assert "the deployed model" not in second.runner("gate")
    assert "in the store already: loop 1" in second.runner("publish")
    assert served(second, tmp_path / "server 2") == one

    # Trained again with another value: judged beside the first, pinned in its place.
    set_params(second.folder, {"train": {"epochs": 2}})
    second.git("commit", "-qam", "one epoch more")
    second.trains("two epochs")
    verdict = json.loads((second.folder / ".work/verdict.json").read_text())
    assert {each["criterion"] for each in verdict["findings"]} >= {"AP50 of airplane", "AP50 of helicopter", "latency"}
    two = served(second, tmp_path / "server 3")
    assert two["version"] == "2" and two["sha256"] != one["sha256"]
    models = json.loads(second.runner("models", "--json"))
    assert [(each["version"], each["environments"], each["latest"]) for each in models] == [
        (2, ["dev"], True),
        (1, [], False),
    ]

    # The way back is Git's.
    second.git("revert", "--no-edit", "HEAD")
    assert served(second, tmp_path / "server 4") == one
    assert " 0 errors" in second.runner("store", "verify")
