"""The plan, on a small project whose dvc.lock is written by hand.

tests/contract/test_reruns.py holds it against `dvc repro`, for keys, code and results that changed.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.compose import compose, stage_text
from runner.errors import ConfigError, StageError
from runner.pipeline.plan import Plan, make_plan

PRESETS = {"dataset": "sample", "model": "yolo11n_scratch", "augment": "default", "train": "cpu", "gate": "default"}
COMPOSED = "artifacts/config/train.yaml"
PIPELINE = {
    "stages": {
        "train": {"cmd": "true", "deps": [COMPOSED, "artifacts/raw", "code.py"], "outs": ["artifacts/model"]},
        "fetch": {"cmd": "true", "deps": ["code.py"], "outs": [{"artifacts/raw": {"push": False}}]},
        "compose": {"cmd": "true", "params": [{"params.yaml": None}], "outs": [COMPOSED]},
    }
}


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def locked(**entries: dict[str, str]) -> dict[str, Any]:
    """A stage of dvc.lock; `entries` are deps or outs: path → md5."""
    listed = {
        key: [{"path": path, "md5": digest, "hash": "md5"} for path, digest in files.items()]
        for key, files in entries.items()
    }
    return {"cmd": "true", **listed}


class Project:
    """A project after a run whose data are somewhere else."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        (folder / ".dvc").mkdir(parents=True)
        (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n")
        shutil.copytree(source / "conf", folder / "conf")
        (folder / "code.py").write_text("code\n")
        self.params: dict[str, Any] = {"presets": PRESETS, "train": {"epochs": 5}}
        self.text = stage_text(compose(folder, self.params)[0], "train")
        composed, raw, code = {COMPOSED: md5(self.text)}, {"artifacts/raw": "1" * 32}, {"code.py": md5("code\n")}
        self.lock: dict[str, Any] = {
            "train": locked(deps=raw | code | composed, outs={"artifacts/model": "2" * 32}),
            "fetch": locked(deps=code, outs=raw),
            "compose": locked(outs=composed) | {"params": {"params.yaml": self.params}},
        }
        self.write()

    def write(self, **params: Any) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params | params))
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
        (self.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": self.lock}))

    def cache(self, text: str) -> None:
        """Put a file's content where DVC keeps it."""
        digest = md5(text)
        cached = self.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        cached.parent.mkdir(parents=True)
        cached.write_text(text)

    def reasons(self) -> dict[str, list[str]]:
        return make_plan(self.folder).reasons


@pytest.fixture
def ran(project: Path, tmp_path: Path) -> Project:
    return Project(tmp_path / "ein Projekt ü", project)


@pytest.mark.parametrize("place", ["workspace", "cache", "nowhere"])
def test_old_values_are_found_when_the_presets_changed_too(ran: Project, place: str) -> None:
    preset = ran.folder / "conf/train/cpu.yaml"
    preset.write_text(preset.read_text(encoding="utf-8").replace("batch: 16", "batch: 9"), encoding="utf-8")
    (ran.folder / COMPOSED).parent.mkdir(parents=True)
    if place == "workspace":
        (ran.folder / COMPOSED).write_text(ran.text)
    else:  # composed anew
        (ran.folder / COMPOSED).write_text(stage_text(compose(ran.folder)[0], "train"))
    if place == "cache":
        ran.cache(ran.text)
    (reason,) = ran.reasons()["train"]
    assert reason == "train.batch: 16 → 9" if place != "nowhere" else reason.startswith(f"{COMPOSED} changed")


@pytest.mark.parametrize("params", [{"presets": {}}, {"train": {"epochs": 0}}])
def test_the_file_is_named_when_the_old_params_compose_no_more(ran: Project, params: dict[str, Any]) -> None:
    ran.lock["compose"]["params"]["params.yaml"] = ran.params | params
    ran.write(train={"epochs": 7})
    (reason,) = ran.reasons()["train"]
    assert reason.startswith(f"{COMPOSED} changed")


def test_a_stage_would_run_when_its_command_is_another_or_a_file_is_missing(ran: Project) -> None:
    ran.lock["fetch"]["cmd"] = "false"
    ran.write(train={"epochs": 5, "lr0": 0.01})
    (ran.folder / "code.py").unlink()
    assert ran.reasons() == {
        "compose": ["params.yaml changed"],
        "fetch": ["its command changed", "code.py is missing"],
        "train": ["train.lr0: 0.002 → 0.01", "fetch runs", "code.py is missing"],
    }


def test_a_stage_would_run_when_its_output_was_changed(ran: Project) -> None:
    ran.lock["train"]["outs"][0]["md5"] = md5("made")
    ran.write()
    ran.cache("made")
    (ran.folder / "artifacts").mkdir()
    (ran.folder / "artifacts/model").write_text("made")
    assert ran.reasons() == {}
    (ran.folder / "artifacts/model").write_text("mine")
    assert ran.reasons() == {"train": ["artifacts/model was changed by hand"]}


def test_composed_files_do_not_matter_when_somebody_composed_by_hand(ran: Project) -> None:
    (ran.folder / COMPOSED).parent.mkdir(parents=True)
    (ran.folder / COMPOSED).write_text("train: mine\n")
    ran.cache(ran.text)
    assert ran.reasons() == {"compose": [f"{COMPOSED} was changed by hand"]}


def test_all_would_run_from_the_training_on_when_the_store_has_not_its_result(ran: Project) -> None:
    with (ran.folder / ".dvc/config").open("a") as config:
        config.write("    remote = store\n['remote \"store\"']\n    url = ../remote\n")
    ran.lock["train"]["outs"][0]["md5"] = md5("model")
    ran.lock["export"] = locked(deps={"artifacts/model": md5("model")}, outs={"artifacts/export": md5("onnx")})
    ran.write()
    export = {"export": {"cmd": "true", "deps": ["artifacts/model"], "outs": ["artifacts/export"]}}
    (ran.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": PIPELINE["stages"] | export}))
    remote, missing = ran.folder / "remote", ["its result is not in the store"]
    remote.mkdir()
    assert make_plan(ran.folder, remote=True).reasons == {"train": missing, "export": ["train runs"]}
    assert make_plan(ran.folder).reasons == {}
    there = remote / "files/md5" / md5("model")[:2]
    there.mkdir(parents=True)
    (there / md5("model")[2:]).write_text("model")
    assert make_plan(ran.folder, remote=True).reasons == {"export": missing}
    shutil.rmtree(remote)
    assert make_plan(ran.folder, remote=True).reasons == {"train": missing, "export": ["train runs"]}


def test_refused_when_nothing_can_be_planned(ran: Project) -> None:
    (ran.folder / "dvc.yaml").write_text("stages: 5")
    with pytest.raises(StageError, match=r"dvc\.yaml"):
        make_plan(ran.folder)
    shutil.rmtree(ran.folder / ".dvc")
    with pytest.raises(StageError, match="DVC"):
        make_plan(ran.folder)


def test_the_way_out_is_named_when_two_branches_wrote_the_lock(ran: Project) -> None:
    lock = (ran.folder / "dvc.lock").read_text()
    (ran.folder / "dvc.lock").write_text(f"schema: '2.0'\n<<<<<<< HEAD\n{lock}=======\n{lock}>>>>>>> branch\n")
    with pytest.raises(ConfigError, match=r"^dvc\.lock:2: .*<<<<<<< HEAD.*git checkout --ours dvc\.lock.*dvc repro"):
        make_plan(ran.folder)


def test_text_and_json_give_the_reasons_and_what_the_run_cache_has() -> None:
    reasons = {"fetch": ["größe: 1 → 2", "x changed"], "train": ["fetch runs"]}
    plan = Plan(reasons, ["compose", "fetch", "train"], frozenset({"train"}), ("gate.deploy: true → false",))
    assert plan.as_text().splitlines() == [
        "compose  -",
        "fetch    größe: 1 → 2; x changed",
        "train    fetch runs (in the run cache)",
        "gate     gate.deploy: true → false",
        "1 of 3 stages would run",
        "answer: gate-only",
    ]
    assert json.loads(plan.as_json()) == {
        **{"answer": "gate-only", "reasons": reasons, "cached": ["train"]},
        "gate": ["gate.deploy: true → false"],
    }
    assert "größe" in plan.as_json()
    assert Plan({}, ["compose"]).as_text() == "compose  -\nnothing would run\nanswer: nothing"


@pytest.mark.parametrize(
    ("runs", "cached", "answer"),
    [
        ([], [], "nothing"),
        (["compose"], [], "nothing"),
        (["compose", "evaluate"], [], "gate-only"),
        (["compose", "train", "evaluate"], ["evaluate"], "train"),
        (["compose", "train", "evaluate"], ["train"], "gate-only"),
        (["compose", "train", "evaluate"], ["train", "evaluate"], "gate-only"),
    ],
)
def test_answer_says_what_a_retrain_has_to_do_when_stages_run(runs: list[str], cached: list[str], answer: str) -> None:
    plan = Plan({stage: ["why"] for stage in runs}, ["compose", "train", "evaluate"], frozenset(cached))
    assert plan.answer == answer
