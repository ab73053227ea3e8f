"""Which edit re-runs which stages: real DVC, our dvc.yaml, `compose` for real; the stages behind it are stubs.

`python -m runner plan` has to say the same beforehand.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from runner.pipeline.plan import make_plan
from tests.support.projects import IDENTITY, Run, set_params

pytestmark = pytest.mark.slow

FETCHED = ["fetch", "prepare", "split", "train", "export", "evaluate"]
PREPARED, DEALT, TRAINED, EXPORTED, EVALUATED = (FETCHED[start:] for start in range(1, 6))


class Edit(NamedTuple):
    """An edit, the stages that it re-runs, and a reason that the plan gives for the first behind compose."""

    what: str
    make: Callable[[Path], None]
    reruns: list[str]
    reason: str = ""
    gate: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        return "train" if "train" in self.reruns else "gate-only" if self.reruns or self.gate else "nothing"


def params(**changes: Any) -> Callable[[Path], None]:
    return lambda project: set_params(project, changes)


def append(file: str, text: str = "\n# a comment\n") -> Callable[[Path], None]:
    def edit(project: Path) -> None:
        with (project / file).open("a", encoding="utf-8") as opened:
            opened.write(text)

    return edit


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(project: Path) -> None:
        text = (project / file).read_text(encoding="utf-8")
        assert old in text
        (project / file).write_text(text.replace(old, new), encoding="utf-8")

    return edit


EDITS = [
    Edit("nothing", lambda _: None, []),
    Edit("sample.seed", params(dataset={"sample": {"seed": 1}}), FETCHED, "dataset.sample.seed: 0 → 1"),
    Edit(
        "classes",
        params(dataset={"classes": ["helicopter", "ä"]}),
        PREPARED,
        'dataset.classes: [] → ["helicopter", "ä"]',
    ),
    Edit("max_width", params(prepare={"max_width": 320}), PREPARED, "prepare.max_width: (empty) → 320"),
    Edit("split.group", params(split={"group": "^[^_]+"}), DEALT, 'split.group: (empty) → "^[^_]+"'),
    Edit("train.epochs", params(train={"epochs": 3}), TRAINED, "train.epochs: 28 → 3"),
    Edit("seed", params(seed=1), TRAINED, "seed: 0 → 1"),
    Edit("augment", params(augment={"mosaic": 0.5}), TRAINED, "augment.mosaic: 1.0 → 0.5"),
    Edit("presets.train", params(presets={"train": "smoke"}), TRAINED, "train.epochs: 28 → 1"),
    Edit("presets.augment", params(presets={"augment": "none"}), TRAINED, "augment.hsv_h: 0.015 → 0.0"),
    Edit("imgsz", params(model={"imgsz": 96}), TRAINED, "model.imgsz: 160 → 96"),
    Edit("export.opset", params(export={"opset": 19}), EXPORTED, "export.opset: 20 → 19"),
    Edit("evaluate.iou", params(evaluate={"iou": 0.6}), EVALUATED, "evaluate.iou: 0.7 → 0.6"),
    Edit(
        "what a preset extends",
        replace("conf/train/gpu.yaml", "lrf: 0.01", "lrf: 0.02"),
        TRAINED,
        "train.lrf: 0.01 → 0.02",
    ),
    Edit("an unused preset", append("conf/model/yolo11s.yaml", "nonsense: 1\n"), []),
    Edit("a masked value", replace("conf/model/yolo11n.yaml", "imgsz: 640", "imgsz: 320"), []),
    Edit("the preset's own value", params(train={"epochs": 28}), []),
    Edit("a comment in params.yaml", append("params.yaml"), []),
    Edit("the gate", params(gate={"min_map50": 0.9}), [], gate=("gate.min_map50: 0.5 → 0.9",)),
    Edit("a masked value of the gate", params(gate={"min_map50": 0.5}), []),
    Edit("the model's name", params(model={"name": "birds"}), [], gate=('model.name: "flyingthings" → "birds"',)),
    Edit("how it is pinned", params(pin={"mode": "pull-request"}), [], gate=('pin.mode: "push" → "pull-request"',)),
    Edit("the CPU's limits", params(fallback={"max_epochs": 3}), []),
    Edit("code of prepare", append("runner/stages/prepare/report.py"), PREPARED, "runner/stages/prepare changed"),
    Edit("code of split", append("runner/stages/split.py"), DEALT, "runner/stages/split.py changed"),
    Edit("code of train", append("runner/stages/train.py"), TRAINED, "runner/stages/train.py changed"),
    Edit("code of compose", append("runner/config/schema.py"), []),
    Edit("plumbing", append("runner/errors.py"), []),
    Edit("pins of training", append("constraints-train.txt"), TRAINED, "constraints-train.txt changed"),
    Edit("other pins", append("constraints.txt"), []),
]
REFUSED = [
    ("a typo", params(train={"epoch": 3}), "error: params.yaml: train.epoch: no such key"),
    ("a value out of range", params(train={"epochs": 0}), "error: params.yaml: train.epochs: found 0, expected"),
    (
        "an unknown preset",
        params(presets={"train": "cup"}),
        "error: params.yaml: presets.train: found 'cup', expected one",
    ),
    (
        "a preset out of range",
        replace("conf/train/cpu.yaml", "epochs: 28", "epochs: 0"),
        "error: conf/train/cpu.yaml: train.e",
    ),
]


def ran(output: str) -> list[str]:
    """Return the stages that DVC ran, leaving out those that it took from its run cache."""
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def repro(project: Path, run: Run, *command: str) -> str:
    done = run("dvc", *(command or ["repro"]), cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def epochs_of(project: Path) -> int:
    content = yaml.safe_load((project / "artifacts/config/train.yaml").read_text(encoding="utf-8"))
    return int(content["train"]["epochs"])


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: str(edit.what))
def test_exactly_these_stages_run_when_edited(edit: Edit, stubbed_copy: Path, run: Run) -> None:
    edit.make(stubbed_copy)
    plan = make_plan(stubbed_copy)
    stages = ran(repro(stubbed_copy, run))
    assert [stage for stage in stages if stage != "compose"] == edit.reruns
    assert list(plan.reasons) == stages
    assert plan.answer == edit.answer
    assert not plan.cached
    assert plan.gate == edit.gate
    if edit.reason:
        assert edit.reason in plan.reasons[edit.reruns[0]]
    assert make_plan(stubbed_copy).reasons == {}


@pytest.mark.parametrize(("what", "make", "message"), REFUSED, ids=[what for what, *_ in REFUSED])
def test_compose_fails_when_a_value_is_wrong(
    what: str, make: Callable[[Path], None], message: str, stubbed_copy: Path, run: Run
) -> None:
    make(stubbed_copy)
    done = run("dvc", "repro", cwd=stubbed_copy)
    assert done.returncode != 0, what
    assert ran(done.stdout) == ["compose"]
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    planned = run("python", "-m", "runner", "plan", cwd=stubbed_copy)
    assert (planned.returncode, planned.stdout) == (1, "")
    assert planned.stderr.startswith(message)


def test_plan_is_json_when_a_program_asks(stubbed_copy: Path, run: Run) -> None:
    set_params(stubbed_copy, {"evaluate": {"iou": 0.6}})
    planned = run("python", "-m", "runner", "plan", "--json", cwd=stubbed_copy)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert json.loads(planned.stdout) == {
        "answer": "gate-only",
        "reasons": {"compose": ["params.yaml changed"], "evaluate": ["evaluate.iou: 0.7 → 0.6"]},
        "cached": [],
        "gate": [],
    }


def test_missing_data_are_no_change_when_the_clone_is_fresh(stubbed: Path, tmp_path: Path, run: Run) -> None:
    clone = tmp_path / "clone ü"
    run("git", "clone", "-q", str(stubbed), str(clone), cwd=tmp_path)
    assert not (clone / "artifacts").exists()
    assert make_plan(clone).reasons == {}
    set_params(clone, {"train": {"epochs": 3}})
    assert make_plan(clone).reasons == {
        "compose": ["params.yaml changed"],
        "train": ["train.epochs: 28 → 3"],
        "export": ["train runs"],
        "evaluate": ["export runs"],
    }
    assert not (clone / "artifacts").exists()


def test_all_stages_run_when_there_is_no_lock(stubbed_copy: Path) -> None:
    (stubbed_copy / "dvc.lock").unlink()
    assert make_plan(stubbed_copy).reasons == {stage: ["never ran"] for stage in ["compose", *FETCHED]}


def test_what_ran_alone_is_seen_when_the_stages_behind_did_not(stubbed_copy: Path, run: Run) -> None:
    set_params(stubbed_copy, {"split": {"seed": 1}})
    assert ran(repro(stubbed_copy, run, "repro", "split")) == ["compose", "split"]
    plan = make_plan(stubbed_copy)
    assert plan.reasons["train"] == ["split has another result than this stage last saw"]
    assert list(plan.reasons) == ran(repro(stubbed_copy, run)) == TRAINED


def test_run_cache_restores_when_an_edit_is_reverted(stubbed_copy: Path, run: Run) -> None:
    before = (stubbed_copy / "dvc.lock").read_bytes()
    text = (stubbed_copy / "params.yaml").read_bytes()
    set_params(stubbed_copy, {"split": {"group": "^[^_]+"}, "train": {"epochs": 3}})
    assert ran(repro(stubbed_copy, run)) == ["compose", *DEALT]
    (stubbed_copy / "params.yaml").write_bytes(text)
    plan = make_plan(stubbed_copy)
    assert (list(plan.reasons), plan.answer) == (["compose", *DEALT], "gate-only")
    assert plan.cached == set(DEALT)
    output = repro(stubbed_copy, run)
    assert ran(output) == []
    assert "Stage 'train' is cached - skipping run, checking out outputs" in output
    assert (stubbed_copy / "dvc.lock").read_bytes() == before


def test_a_clone_asks_the_remote_when_the_commit_was_trained_elsewhere(
    stubbed_copy: Path, tmp_path: Path, run: Run
) -> None:
    """As it is when a run died in publish: the results are in the store, dvc.lock is not in Git."""
    set_params(stubbed_copy, {"train": {"epochs": 3}, "split": {"seed": 1}})
    run("git", *IDENTITY, "commit", "-qam", "change", cwd=stubbed_copy)
    clone = tmp_path / "clone"
    run("git", "clone", "-q", str(stubbed_copy), str(clone), cwd=tmp_path)
    repro(stubbed_copy, run)
    assert make_plan(clone, remote=True).answer == "train"
    repro(stubbed_copy, run, "push", "-q", "--run-cache")
    (clone / ".dvc/config.local").write_text(f"['remote \"store\"']\n    url = {stubbed_copy}/store/dvc\n")
    assert make_plan(clone).answer == "train"  # nobody asked the store
    plan = make_plan(clone, remote=True)
    assert (plan.answer, set(plan.cached)) == ("gate-only", set(DEALT))
    assert ran(repro(clone, run, "repro", "--pull")) == [
        "fetch"
    ]  # raw/ is not pushed: the dataset's zip is in the store
    run("git", *IDENTITY, "commit", "-qam", "lock", cwd=stubbed_copy)
    run("git", "pull", "-q", cwd=clone)
    assert make_plan(clone).answer == "nothing"


def test_a_stage_has_to_run_when_the_remote_lost_its_outputs(stubbed_copy: Path, tmp_path: Path, run: Run) -> None:
    lock = (stubbed_copy / "dvc.lock").read_bytes()
    set_params(stubbed_copy, {"train": {"epochs": 3}})
    repro(stubbed_copy, run)
    repro(stubbed_copy, run, "push", "-q", "--run-cache")
    (stubbed_copy / "dvc.lock").write_bytes(lock)
    shutil.rmtree(stubbed_copy / ".dvc/cache/files")
    assert make_plan(stubbed_copy, remote=True).answer == "gate-only"
    shutil.rmtree(stubbed_copy / "store/dvc/files")
    assert make_plan(stubbed_copy, remote=True).answer == "train"


def test_the_run_cache_is_not_asked_when_the_store_cannot_be_reached(
    stubbed_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(stubbed_copy, {"train": {"epochs": 3}})
    (stubbed_copy / ".dvc/config.local").write_text(
        "['remote \"store\"']\n    url = s3://nowhere/dvc\n    endpointurl = http://127.0.0.1:9\n"
        "    access_key_id = x\n    secret_access_key = y\n"
    )
    assert make_plan(stubbed_copy, remote=True).answer == "train"
    assert "the run cache of the store was not asked: " in capsys.readouterr().out


def test_one_experiment_runs_when_a_value_is_set_and_hand_edits_stay(stubbed_copy: Path, run: Run) -> None:
    set_params(stubbed_copy, {"evaluate": {"iou": 0.6}})
    output = repro(stubbed_copy, run, "exp", "run", "-S", "train.epochs=3")
    assert ran(output) == ["compose", *TRAINED]
    assert epochs_of(stubbed_copy) == 3
    set_params(stubbed_copy, {"train": {"epochs": 4}})
    assert ran(repro(stubbed_copy, run)) == ["compose", *TRAINED]
    assert epochs_of(stubbed_copy) == 4
    params_now = yaml.safe_load((stubbed_copy / "params.yaml").read_text(encoding="utf-8"))
    assert (params_now["train"]["epochs"], params_now["evaluate"]["iou"]) == (4, 0.6)


def test_differences_are_printed_when_dvc_is_asked(stubbed_copy: Path, run: Run) -> None:
    set_params(stubbed_copy, {"train": {"epochs": 3}})
    repro(stubbed_copy, run)
    changed = json.loads(repro(stubbed_copy, run, "params", "diff", "--json"))
    assert changed["artifacts/config/train.yaml"]["train.epochs"] == {"old": 28, "new": 3, "diff": -25}
    metrics = json.loads(repro(stubbed_copy, run, "metrics", "diff", "--json"))
    assert metrics["artifacts/evaluation/metrics.json"]["map50"]["diff"] != 0
    assert "map50" in repro(stubbed_copy, run, "exp", "show", "--csv")


def test_every_combination_runs_when_queued(stubbed_copy: Path, run: Run) -> None:
    repro(
        stubbed_copy,
        run,
        *("exp", "run", "--queue"),
        *("-S", "presets.model=yolo11n_scratch,yolov8n_scratch"),
        *("-S", "train.epochs=1,2"),
    )
    repro(stubbed_copy, run, "exp", "run", "--run-all")
    shown = json.loads(repro(stubbed_copy, run, "exp", "show", "--json"))
    found = set()
    for revision in shown:
        for experiment in revision.get("experiments") or []:
            values = experiment["revs"][0]["data"]["params"]["artifacts/config/train.yaml"]["data"]
            found.add((values["model"]["base"], values["train"]["epochs"]))
    assert found == {(base, epochs) for base in ("yolo11n.yaml", "yolov8n.yaml") for epochs in (1, 2)}
