"""Which edit re-runs which stages: our dvc.yaml, `compose` for real, the stages behind it as stubs.

`python -m runner plan` says it for every edit; real DVC is held against it for one edit of each kind.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from runner.__main__ import main
from runner.config.compose import compose, stage_text
from runner.errors import ConfigError, StageError
from runner.pipeline.plan import make_plan
from tests.support.projects import IDENTITY, Run, copy_project, set_params
from tests.support.trees import swap

pytestmark = pytest.mark.slow

FETCHED = ["fetch", "prepare", "split", "train", "export", "evaluate"]
PREPARED, DEALT, TRAINED, EXPORTED, EVALUATED = (FETCHED[start:] for start in range(1, 6))

# Reads every dependency, writes every output from what it read; run without site-packages, so it starts at once.
STUB = """
import hashlib, os, sys
deps, outs = (part.split("|") for part in sys.argv[1:])
digest = hashlib.sha256()
for dep in deps:
    names = [dep] if os.path.isfile(dep) else sorted(f"{at}/{name}" for at, _, all in os.walk(dep) for name in all)
    for name in names:
        if not name.endswith(".pyc"):
            digest.update(open(name, "rb").read())
text = digest.hexdigest()
for out in outs:
    os.makedirs(out)
    open(f"{out}/made", "w").write(text)
    open(f"{out}/metrics.json", "w").write('{"map50": 0.%d}' % int(text[:4], 16))
    columns = "epoch,metrics/mAP50(B),metrics/precision(B),metrics/recall(B)"
    open(f"{out}/results.csv", "w").write(columns + "\\n1,0.1,0.2,0.3\\n")
"""


@pytest.fixture(scope="module")
def stubbed(project: Path, environment: dict[str, str], run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project after one `dvc repro`, committed; tests must not change it."""
    copy = copy_project(project, tmp_path_factory.mktemp("stubbed") / "flywheel", environment)
    pipeline: dict[str, Any] = yaml.safe_load((copy / "dvc.yaml").read_text(encoding="utf-8"))
    for name, stage in pipeline["stages"].items():
        if name != "compose":
            outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
            stage["cmd"] = f'python -S stub.py "{"|".join(stage["deps"])}" "{"|".join(outs)}"'
    (copy / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    (copy / "stub.py").write_text(STUB, encoding="utf-8")
    done = run("dvc", "repro", cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    run("git", "add", "-A", cwd=copy)
    run("git", *IDENTITY, "commit", "-qm", "first run", cwd=copy)
    return copy


@pytest.fixture
def stubbed_copy(stubbed: Path, tmp_path: Path) -> Path:
    """A copy of the stubbed project that a test may change."""
    return Path(shutil.copytree(stubbed, tmp_path / "flywheel", symlinks=True))


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
    return lambda project: swap(project / file, old, new)


GPU = replace("conf/train/gpu.yaml", "lrf: 0.01", "lrf: 0.02")
CLASSES = params(dataset={"classes": ["helicopter", "ä"]})
SPLIT = "runner/stages/split.py"
BY_DVC = [
    Edit("a comment in params.yaml", append("params.yaml"), []),
    Edit("sample.seed", params(dataset={"sample": {"seed": 1}}), FETCHED, "dataset.sample.seed: 0 → 1"),
    Edit("classes", CLASSES, PREPARED, 'dataset.classes: [] → ["helicopter", "ä"]'),
    Edit("split.group", params(split={"group": "^[^_]+"}), DEALT, 'split.group: (empty) → "^[^_]+"'),
    Edit("what a preset extends", GPU, TRAINED, "train.lrf: 0.01 → 0.02"),
    Edit("export.opset", params(export={"opset": 19}), EXPORTED, "export.opset: 20 → 19"),
    Edit("evaluate.iou", params(evaluate={"iou": 0.6}), EVALUATED, "evaluate.iou: 0.7 → 0.6"),
    Edit("the gate", params(gate={"min_map50": 0.9}), [], gate=("gate.min_map50: 0.5 → 0.9",)),
    Edit("code of prepare", append("runner/stages/prepare/report.py"), PREPARED, "runner/stages/prepare changed"),
    Edit("pins of training", append("constraints-train.txt"), TRAINED, "constraints-train.txt changed"),
    Edit("plumbing", append("runner/errors.py"), []),
]
PLANNED = [
    Edit("nothing", lambda _: None, []),
    Edit("max_width", params(prepare={"max_width": 320}), PREPARED, "prepare.max_width: (empty) → 320"),
    Edit("train.epochs", params(train={"epochs": 3}), TRAINED, "train.epochs: 28 → 3"),
    Edit("seed", params(seed=1), TRAINED, "seed: 0 → 1"),
    Edit("augment", params(augment={"mosaic": 0.5}), TRAINED, "augment.mosaic: 1.0 → 0.5"),
    Edit("presets.train", params(presets={"train": "smoke"}), TRAINED, "train.epochs: 28 → 1"),
    Edit("presets.augment", params(presets={"augment": "none"}), TRAINED, "augment.hsv_h: 0.015 → 0.0"),
    Edit("imgsz", params(model={"imgsz": 96}), TRAINED, "model.imgsz: 160 → 96"),
    Edit("an unused preset", append("conf/model/yolo11s.yaml", "nonsense: 1\n"), []),
    Edit("a masked value", replace("conf/model/yolo11n.yaml", "imgsz: 640", "imgsz: 320"), []),
    Edit("the preset's own value", params(train={"epochs": 28}), []),
    Edit("a masked value of the gate", params(gate={"min_map50": 0.5}), []),
    Edit("the model's name", params(model={"name": "birds"}), [], gate=('model.name: "flyingthings" → "birds"',)),
    Edit("how it is pinned", params(pin={"mode": "pull-request"}), [], gate=('pin.mode: "push" → "pull-request"',)),
    Edit("the CPU's limits", params(fallback={"max_epochs": 3}), []),
    Edit("code of split", append(SPLIT), DEALT, f"{SPLIT} changed"),
    Edit("code of train", append("runner/stages/train/train.py"), TRAINED, "runner/stages/train changed"),
    Edit("code of compose", append("runner/config/schema.py"), []),
    Edit("other pins", append("constraints.txt"), []),
    Edit("a command", replace("dvc.yaml", '"artifacts/split"', "artifacts/split"), DEALT, "its command changed"),
    Edit("no code of split", lambda it: (it / SPLIT).unlink(), DEALT, f"{SPLIT} is missing"),
]


def ran(output: str) -> list[str]:
    """Return the stages that DVC ran, leaving out those that it took from its run cache."""
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def repro(project: Path, run: Run, *command: str) -> str:
    done = run("dvc", *(command or ["repro"]), cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def composed(project: Path) -> dict[str, Any]:
    """Return the composed values of train."""
    content: dict[str, Any] = yaml.safe_load((project / "artifacts/config/train.yaml").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("edit", [*PLANNED, *BY_DVC], ids=lambda edit: str(edit.what))
def test_exactly_these_stages_run_when_edited(edit: Edit, stubbed_copy: Path, run: Run) -> None:
    edit.make(stubbed_copy)
    plan = make_plan(stubbed_copy)
    assert [stage for stage in plan.reasons if stage != "compose"] == edit.reruns
    assert (plan.answer, plan.gate) == (edit.answer, edit.gate)
    assert not plan.cached
    if edit.reason:
        assert edit.reason in plan.reasons[edit.reruns[0]]
    if edit in BY_DVC:
        assert ran(repro(stubbed_copy, run)) == list(plan.reasons)
        assert make_plan(stubbed_copy).reasons == {}


def test_compose_alone_fails_when_a_value_is_wrong(
    stubbed_copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(stubbed_copy, {"train": {"epoch": 3}})
    done = run("dvc", "repro", cwd=stubbed_copy)
    assert done.returncode != 0
    assert ran(done.stdout) == ["compose"]
    assert "error: params.yaml: train.epoch: " in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.chdir(stubbed_copy)
    assert main(["plan"]) == 1
    assert capsys.readouterr().err.startswith("error: params.yaml: train.epoch: ")


def test_plan_is_json_when_a_program_asks(
    stubbed_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(stubbed_copy, {"evaluate": {"iou": 0.6}, "gate": {"min_map50": 0.9}})
    monkeypatch.chdir(stubbed_copy)
    assert main(["plan", "--json"]) == 0
    gate = ["gate.min_map50: 0.5 → 0.9"]
    reasons = {"compose": ["params.yaml changed"], "evaluate": ["evaluate.iou: 0.7 → 0.6"]}
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"answer": "gate-only", "reasons": reasons, "cached": [], "gate": gate}
    assert gate[0] in printed  # as people read it


def test_an_output_is_named_when_somebody_changed_it(stubbed_copy: Path) -> None:
    append("artifacts/config/train.yaml")(stubbed_copy)
    assert make_plan(stubbed_copy).reasons == {"compose": ["artifacts/config/train.yaml was changed by hand"]}
    append("artifacts/model/made")(stubbed_copy)
    assert make_plan(stubbed_copy).reasons["train"] == ["artifacts/model was changed by hand"]


def test_the_file_is_named_when_its_old_values_are_nowhere(stubbed_copy: Path) -> None:
    GPU(stubbed_copy)  # so that the old params.yaml, which dvc.lock has, composes to something else
    (stubbed_copy / "artifacts/config/train.yaml").write_text(stage_text(compose(stubbed_copy)[0], "train"))
    assert make_plan(stubbed_copy).reasons["train"] == ["train.lrf: 0.01 → 0.02"]  # by DVC's cache
    shutil.rmtree(stubbed_copy / ".dvc/cache")
    (reason,) = make_plan(stubbed_copy).reasons["train"]
    assert reason.startswith("artifacts/config/train.yaml changed")
    lock = yaml.safe_load((stubbed_copy / "dvc.lock").read_text(encoding="utf-8"))
    lock["stages"]["compose"]["params"]["params.yaml"] = {"presets": {}}  # which composes no more
    (stubbed_copy / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    assert make_plan(stubbed_copy).reasons["train"] == [reason]


def test_refused_when_nothing_can_be_planned(stubbed_copy: Path) -> None:
    lock = (stubbed_copy / "dvc.lock").read_text()
    (stubbed_copy / "dvc.lock").write_text(f"schema: '2.0'\n<<<<<<< HEAD\n{lock}=======\n{lock}>>>>>>> branch\n")
    with pytest.raises(ConfigError, match=r"^dvc\.lock:2: .*<<<<<<< HEAD.*git checkout --ours dvc\.lock.*dvc repro"):
        make_plan(stubbed_copy)
    (stubbed_copy / "dvc.lock").write_text(lock)
    (stubbed_copy / "dvc.yaml").write_text("stages: 5")
    with pytest.raises(StageError, match=r"dvc\.yaml"):
        make_plan(stubbed_copy)
    shutil.rmtree(stubbed_copy / ".dvc")
    with pytest.raises(StageError, match="DVC"):
        make_plan(stubbed_copy)


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
    (clone / "dvc.lock").unlink()
    assert make_plan(clone).reasons == {stage: ["never ran"] for stage in ["compose", *FETCHED]}


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
    assert ran(repro(clone, run, "repro", "--pull")) == []
    run("git", *IDENTITY, "commit", "-qam", "lock", cwd=stubbed_copy)
    run("git", "checkout", "-q", "dvc.lock", cwd=clone)
    run("git", "pull", "-q", cwd=clone)
    assert make_plan(clone).answer == "nothing"
    # The remote loses the model for the server, then the trained one too.
    shutil.rmtree(clone / ".dvc/cache/files")
    missing = "its result is not in the store"
    lock = yaml.safe_load((clone / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    for stage, expected in (
        ("export", {"export": [missing], "evaluate": ["export runs"]}),
        ("train", {"train": [missing], "export": ["train runs"], "evaluate": ["export runs"]}),
    ):
        digest = lock[stage]["outs"][0]["md5"]
        (stubbed_copy / "store/dvc/files/md5" / digest[:2] / digest[2:]).unlink()
        assert make_plan(clone).reasons == {}
        assert make_plan(clone, remote=True).reasons == expected
    shutil.rmtree(stubbed_copy / "store/dvc/files")
    run("git", "checkout", "-q", "HEAD~1", "dvc.lock", cwd=clone)
    assert make_plan(clone, remote=True).answer == "train"


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


def test_experiments_run_when_a_value_is_set_or_several_are_queued(stubbed_copy: Path, run: Run) -> None:
    set_params(stubbed_copy, {"evaluate": {"iou": 0.6}})
    output = repro(stubbed_copy, run, "exp", "run", "-S", "train.epochs=3")
    assert ran(output) == ["compose", *TRAINED]
    assert composed(stubbed_copy)["train"]["epochs"] == 3
    set_params(stubbed_copy, {"train": {"epochs": 4}})  # a hand edit stays
    assert ran(repro(stubbed_copy, run)) == ["compose", *TRAINED]
    assert composed(stubbed_copy)["train"]["epochs"] == 4
    params_now = yaml.safe_load((stubbed_copy / "params.yaml").read_text(encoding="utf-8"))
    assert (params_now["train"]["epochs"], params_now["evaluate"]["iou"]) == (4, 0.6)

    changed = json.loads(repro(stubbed_copy, run, "params", "diff", "--json"))
    assert changed["artifacts/config/train.yaml"]["train.epochs"] == {"old": 28, "new": 4, "diff": -24}
    metrics = json.loads(repro(stubbed_copy, run, "metrics", "diff", "--json"))
    assert metrics["artifacts/evaluation/metrics.json"]["map50"]["diff"] != 0

    models, epochs = "presets.model=yolo11n_scratch,yolov8n_scratch", "train.epochs=1"
    repro(stubbed_copy, run, "exp", "run", "--queue", "-S", models, "-S", epochs)
    repro(stubbed_copy, run, "exp", "run", "--run-all")
    found = set()
    for revision in json.loads(repro(stubbed_copy, run, "exp", "show", "--json")):
        for experiment in revision.get("experiments") or []:
            values = experiment["revs"][0]["data"]["params"]["artifacts/config/train.yaml"]["data"]
            found.add((values["model"]["base"], values["train"]["epochs"]))
    assert found >= {("yolo11n.yaml", 1), ("yolov8n.yaml", 1)}
