import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import ConfigError, GitError, StageError
from runner.forge.git import head_of
from runner.release.pin import read_pin
from runner.retrain.bot_commit import BOT_FILES, Pinned, Run, pin, propose_for_staging
from runner.retrain.branch import cloned
from runner.store.folder import FolderStore
from tests.support.projects import Repository

ONNX = b"a model"
FIGURES = {"map50": 0.9, "map50_95": 0.5, "precision": 0.8, "recall": 0.7, "threshold": 0.4, "boxes": 30}
LOCK = "schema: '2.0'\nstages: {train: {cmd: new}}\n"
EMPTY_PIN = "MODEL_URI=\nMODEL_SHA256=\nMODEL_VERSION=\nMODEL_COMMIT=\nMODEL_MAP50=\n"
FILES = {
    "params.yaml": "train:\n  epochs: 2\n",
    "dvc.lock": "schema: '2.0'\nstages: {}\n",
    **{f"gitops/serving/environments/{environment}/model.env": EMPTY_PIN for environment in ("dev", "staging")},
}


class Bucket(FolderStore):
    """A folder that is called as a bucket is: the cluster cannot read a folder, so nothing in one is pinned."""

    def uri_of(self, key: str) -> str:
        return f"s3://things/{key}"


class Bench(Repository):
    """A repository with a commit, on a server; a store with what a run of that commit left."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder, self.store = folder, Bucket(folder / "store")
        self.pauses: list[float] = []
        self.during: Callable[[], object] = lambda: None  # what happens while it waits
        self.revision = self.commit("first", **FILES)
        self.leave(params=FILES["params.yaml"])

    def revert(self) -> str:
        self.follow()
        return self.commit("Revert", **{name: FILES[name] for name in BOT_FILES})

    def leave(self, *, params: str, lock: str = LOCK) -> None:
        files = {}
        for name, content in {"params.yaml": params.encode(), "dvc.lock": lock.encode()}.items():
            files[name] = hashlib.sha256(content).hexdigest()
            self.store.replace(f"pipeline/run/release/{files[name]}", content)
        manifest = {"name": "things", "version": 0, "onnx_sha256": hashlib.sha256(ONNX).hexdigest(), "classes": []}
        release = json.dumps({"manifest": manifest, "files": files}).encode()
        self.store.replace("pipeline/run/release.json", release)
        self.release = hashlib.sha256(release).hexdigest()

    def put(self, number: int, *, passed: bool = True, deploy: bool = False) -> None:
        manifest = {
            **{"name": "things", "version": number, "onnx_sha256": hashlib.sha256(ONNX).hexdigest()},
            **{"classes": ["kite"], "metrics": {**FIGURES, "classes": {"kite": FIGURES}}, "commit": self.revision},
            "verdict": {"passed": passed, "findings": [], "deploy": deploy},
        }
        self.store.create(f"models/things/{number}/model.onnx", ONNX)
        self.store.create(f"models/things/{number}/manifest.json", json.dumps(manifest).encode())

    def pin(self, mode: str = "push") -> Pinned:
        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            self.during()

        run = Run("run", self.release, self.revision, self.url, "main")
        return pin(run, self.store, "things", 1, mode=mode, pause=pause)

    def pinned(self) -> str | None:
        with cloned(self.url, "main") as clone:
            found = read_pin(clone, "dev")
        return found.version if found else None

    def changed(self, revision: str = "main") -> list[str]:
        return self.remote("show", "--name-only", "--format=", revision).splitlines()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in ("FORGE", "FORGE_TOKEN", "GITHUB_TOKEN", "GITHUB_API_URL", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    return Bench(tmp_path)


def test_lock_and_pin_are_one_commit_when_the_model_passed(bench: Bench) -> None:
    bench.put(1)
    pinned = bench.pin()
    assert bench.remote("rev-parse", "main") == pinned.commit
    assert bench.changed() == sorted(BOT_FILES)
    assert bench.pinned() == "1"
    author, title, *body = bench.remote("show", "-s", "--format=%an%n%B", "main").splitlines()
    assert (author, title) == ("flywheel", "dev runs things 1, mAP50 0.900")
    assert body == ["", f"Of {bench.revision}, by run.", "", "Flywheel-Pin: things/1"]  # the trigger reads the last
    assert bench.remote("show", "main:dvc.lock") == LOCK.strip()

    assert bench.pin().commit == ""  # it is there already
    assert bench.remote("rev-parse", "main") == pinned.commit


def test_the_lock_alone_is_committed_when_the_model_did_not_pass(bench: Bench) -> None:
    bench.put(1, passed=False)
    assert bench.pin().said.startswith("Lock of things 1, not pinned, mAP50 0.900: commit ")
    assert bench.changed() == ["dvc.lock"]
    assert bench.pinned() is None


def test_what_was_taken_back_stays_so_when_no_input_changed_since(bench: Bench) -> None:
    bench.put(1)
    bench.pin()
    bench.revision = bench.revert()
    assert bench.pin().said.startswith("Lock of things 1, mAP50 0.900: commit ")
    assert (bench.changed(), bench.pinned()) == (["dvc.lock"], None)
    bench.follow()
    bench.revision = bench.commit("another preset", **{"conf/a.yaml": "x: 1\n"})
    assert bench.pin().said.startswith("dev runs things 1")
    assert bench.pinned() == "1"


def test_a_version_is_pinned_when_the_one_that_was_taken_back_is_another_of_its_number(bench: Bench) -> None:
    bench.put(1)
    bench.pin()
    bench.revision = bench.revert()
    manifest = json.loads(bench.store.read(key := "models/things/1/manifest.json")) | {"commit": bench.revision}
    bench.store.replace(key, json.dumps(manifest).encode())  # in a store that was made anew
    assert bench.pin().said.startswith("dev runs things 1")


@pytest.mark.parametrize(
    ("files", "is_pinned"),
    [({"README.md": "new"}, True), ({"params.yaml": "x: 1\n"}, False), ({"conf/a.yaml": ""}, False)],
)
def test_a_later_commit_counts_when_it_changes_a_training(bench: Bench, files: dict[str, str], is_pinned: bool) -> None:
    bench.put(1)
    later = bench.commit("later", **files)
    pinned = bench.pin()
    assert bool(pinned.commit) is is_pinned
    if not is_pinned:
        assert pinned.said == f"not pinned: superseded by {later[:7]} later"
        assert bench.remote("rev-parse", "main") == later


def test_nothing_is_pinned_when_the_run_had_other_values(bench: Bench) -> None:
    bench.put(1)
    note = "Of one run, not of the repository: started by hand with train.epochs=1"
    bench.leave(params=f"# {note}\ntrain:\n  epochs: 1\n")
    pinned = bench.pin()
    assert pinned.commit == "" and pinned.said.startswith("not pinned: ") and note in pinned.said


def test_the_commit_is_made_anew_when_somebody_was_faster(bench: Bench) -> None:
    bench.put(1)
    hook = bench.bare / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nrm hooks/pre-receive\nexit 1\n")
    hook.chmod(0o755)
    bench.during = lambda: bench.commit("meanwhile", **{"README.md": "new"})
    assert bench.pin().commit
    assert bench.pauses == [1.0]
    assert bench.remote("log", "--format=%s", "-2", "main").splitlines() == [
        "dev runs things 1, mAP50 0.900",
        "meanwhile",
    ]


@pytest.mark.parametrize("returns", [True, False])
def test_it_is_tried_again_when_the_server_is_away(bench: Bench, returns: bool) -> None:
    bench.put(1)
    away = bench.bare.rename(bench.folder / "away")

    def come_back() -> None:
        if len(bench.pauses) == 3 and returns:
            away.rename(bench.bare)

    bench.during = come_back
    if returns:
        assert bench.pin().commit
        assert bench.pauses == [1.0, 2.0, 4.0]
    else:
        with pytest.raises(GitError, match="git clone"):
            bench.pin()
        assert bench.pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]


def test_refused_when_the_environment_is_a_link(bench: Bench) -> None:
    bench.put(1)
    overlay, elsewhere = bench.clone / "gitops/serving/environments/dev", bench.clone / "elsewhere"
    overlay.rename(elsewhere)
    overlay.symlink_to("../../../elsewhere")
    before = bench.commit("a link")
    with pytest.raises(ConfigError, match="environments/dev"):
        bench.pin()
    assert bench.remote("rev-parse", "main") == before


@pytest.mark.parametrize("file", BOT_FILES)
def test_no_link_of_the_branch_is_followed_when_its_files_are_written(bench: Bench, file: str) -> None:
    """A lock that is settings of Git too: YAML ends a comment at a carriage return, Git does not."""
    bench.put(1)
    trace = bench.folder / "ran"
    (bench.clone / file).unlink()
    (bench.clone / file).symlink_to(f"{'../' * file.count('/')}.git/config")
    bench.revision = bench.commit("a link")
    config = f"[core]\n\tfsmonitor = touch {trace}; false\n"
    bench.leave(params=FILES["params.yaml"], lock=f'#\r{{stages: {{}}, x: "\n{config}#"}}\n')
    with pytest.raises(StageError, match=rf"^{file}: "):
        bench.pin()
    assert not trace.exists()
    assert bench.remote("rev-parse", "main") == bench.revision


def test_refused_when_another_run_replaced_what_was_staged(bench: Bench) -> None:
    """The trainer's key, which the code of any branch that runs has, writes all of pipeline/."""
    bench.put(1)
    ours, lock = bench.release, LOCK.replace("new", "theirs")
    bench.leave(params=FILES["params.yaml"], lock=lock)
    bench.release = ours
    with pytest.raises(StageError, match=f"staged {ours}"):
        bench.pin()
    assert bench.remote("rev-parse", "main") == bench.revision


def test_refused_when_the_lock_is_none(bench: Bench) -> None:
    bench.put(1)
    bench.leave(params=FILES["params.yaml"], lock="- no lock\n")
    with pytest.raises(StageError, match=r"pipeline/run: its dvc\.lock"):
        bench.pin()


def test_a_branch_is_proposed_when_main_is_protected(bench: Bench) -> None:
    bench.put(1)
    for state in ("pushed", "there already"):
        assert f"branch flywheel/things is {state}" in bench.pin(mode="pull-request").said
    assert bench.remote("rev-parse", "main") == bench.revision
    assert bench.changed("flywheel/things") == sorted(BOT_FILES)


@pytest.mark.parametrize(
    ("passed", "deploy", "is_proposed"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_staging_is_proposed_when_asked_and_passed(bench: Bench, passed: bool, deploy: bool, is_proposed: bool) -> None:
    bench.put(1, passed=passed, deploy=deploy)
    said = propose_for_staging(bench.url, "main", bench.store, "things", 1)
    assert ("branch flywheel/staging is pushed" in said) is is_proposed
    if is_proposed:
        assert bench.changed("flywheel/staging") == ["gitops/serving/environments/staging/model.env"]
        assert "| all | - → 0.900 |" in bench.remote("show", "-s", "--format=%b", "flywheel/staging")
        assert bench.remote("log", "--format=%H", "-1", "flywheel/staging~1") == bench.revision


def test_the_head_is_found_when_a_run_is_started_by_hand(bench: Bench) -> None:
    assert head_of(bench.url, "main") == bench.revision
    with pytest.raises(GitError, match="there is no branch nobody"):
        head_of(bench.url, "nobody")
