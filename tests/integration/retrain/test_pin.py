"""The bot's commit: real Git over HTTP with tokens, versions in a real MinIO."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.errors import GitError, StageError
from runner.forge.git import head_of
from runner.release.pin import read_pin
from runner.retrain.bot_commit import MINE, Pinned, Run, pin
from runner.retrain.branch import BOT, cloned, newer
from runner.retrain.staging import propose_for_staging
from runner.store import Store, open_store
from tests.support import s3
from tests.support.forge import Forge, serving_forge

ONNX = b"a model"
FIGURES = {"map50": 0.9, "map50_95": 0.5, "precision": 0.8, "recall": 0.7, "threshold": 0.4, "boxes": 30}
LOCK = "schema: '2.0'\nstages: {train: {cmd: new}}\n"
EMPTY_PIN = "MODEL_URI=\nMODEL_SHA256=\nMODEL_VERSION=\nMODEL_COMMIT=\nMODEL_MAP50=\n"
FILES = {
    "params.yaml": "train:\n  epochs: 2\n",
    "dvc.lock": "schema: '2.0'\nstages: {}\n",
    **{f"gitops/serving/overlays/{environment}/model.env": EMPTY_PIN for environment in ("dev", "staging")},
}


class Bench:
    """A repository with a commit, on a server; a store with what a run of that commit left."""

    def __init__(self, forge: Forge, store: Store, folder: Path) -> None:
        self.forge, self.store, self.folder = forge, store, folder
        self.pauses: list[float] = []
        self.during: Callable[[], None] = lambda: None  # what happens while it waits
        self.revision = self.commit("first", FILES)
        self.leave(params=FILES["params.yaml"])

    def commit(self, message: str, files: dict[str, str]) -> str:
        """Commit as somebody else does, straight into the repository."""
        with cloned(self.forge.url, "main") as clone:
            for name, text in files.items():
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                (clone / name).write_text(text)
            for command in (
                ["add", "-A"],
                [*BOT, "commit", "-qm", message],
                ["push", "-q", str(self.forge.folder), "HEAD:main"],
            ):
                subprocess.run(["git", *command], cwd=clone, check=True, capture_output=True)
        return self.forge.git("rev-parse", "main")

    def leave(self, *, params: str, lock: str = LOCK) -> None:
        self.store.replace("pipeline/run/params.yaml", params.encode())
        self.store.replace("pipeline/run/dvc.lock", lock.encode())

    def put(self, number: int, *, passed: bool = True, deploy: bool = False) -> None:
        verdict = {"passed": passed, "findings": [], "deploy": deploy}
        manifest = {
            **{
                "name": "things",
                "version": number,
                "onnx_sha256": hashlib.sha256(ONNX).hexdigest(),
                "classes": ["kite"],
            },
            **{"metrics": {**FIGURES, "classes": {"kite": FIGURES}}, "commit": self.revision, "verdict": verdict},
        }
        self.store.create(f"models/things/{number}/model.onnx", ONNX)
        self.store.create(f"models/things/{number}/manifest.json", json.dumps(manifest).encode())

    def pin(self, number: int = 1, mode: str = "push") -> Pinned:
        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            self.during()

        run = Run("run", self.revision, self.forge.url, "main")
        return pin(run, self.store, "things", number, mode=mode, pause=pause)

    def pinned(self, environment: str = "dev") -> str | None:
        with cloned(self.forge.url, "main") as clone:
            found = read_pin(clone, environment)
        return found.version if found else None

    def changed(self, revision: str = "main") -> list[str]:
        return self.forge.git("show", "--name-only", "--format=", revision).splitlines()


@pytest.fixture
def bench(tmp_path: Path, minio: s3.S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, value in minio.bucket().items():
        monkeypatch.setenv(name, value)
    bare = tmp_path / "things.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    seed = tmp_path / "seed"
    for command in (
        ["init", "-q", "-b", "main", str(seed)],
        ["-C", str(seed), *BOT, "commit", "-q", "--allow-empty", "-m", "empty"],
        ["-C", str(seed), "push", "-q", str(bare), "main"],
    ):
        subprocess.run(["git", *command], check=True, capture_output=True)
    with serving_forge(bare) as forge:
        monkeypatch.setenv("GITHUB_TOKEN", forge.write_token)
        yield Bench(forge, open_store(tmp_path), tmp_path)


def test_lock_and_pin_are_one_commit_when_the_model_passed(bench: Bench) -> None:
    bench.put(1)
    pinned = bench.pin()
    assert bench.forge.git("rev-parse", "main") == pinned.commit
    assert bench.changed() == sorted(MINE)
    assert bench.pinned() == "1"
    assert bench.forge.git("show", "-s", "--format=%an%n%B", "main").splitlines() == [
        *(
            "flywheel",
            "dev runs things 1, mAP50 0.900",
            "",
            f"Of {bench.revision}, by run.",
            "",
            "Flywheel-Pin: things/1",
        ),
    ]
    assert bench.forge.git("show", "main:dvc.lock") == LOCK.strip()


def test_the_lock_alone_is_committed_when_the_model_did_not_pass(bench: Bench) -> None:
    bench.put(1, passed=False)
    assert bench.pin().said.startswith("Lock of things 1, not pinned, mAP50 0.900: commit ")
    assert bench.changed() == ["dvc.lock"]
    assert bench.pinned() is None


def test_nothing_is_committed_when_it_is_there_already(bench: Bench) -> None:
    bench.put(1)
    first = bench.pin().commit
    assert bench.pin() == Pinned("", "things 1 is in Git already: nothing to commit")
    assert bench.forge.git("rev-parse", "main") == first


def test_what_was_taken_back_stays_so_when_no_input_changed_since(bench: Bench) -> None:
    bench.put(1)
    bench.pin()
    bench.revision = bench.commit("Revert", {name: FILES[name] for name in MINE})
    assert bench.pin().said.startswith("Lock of things 1, mAP50 0.900: commit ")
    assert (bench.changed(), bench.pinned()) == (["dvc.lock"], None)
    bench.revision = bench.commit("another preset", {"conf/a.yaml": "x: 1\n"})
    assert bench.pin().said.startswith("dev runs things 1")
    assert bench.pinned() == "1"


def test_a_version_is_pinned_when_the_one_that_was_taken_back_is_another_of_its_number(bench: Bench) -> None:
    bench.put(1)
    bench.pin()
    bench.revision = bench.commit("Revert", {name: FILES[name] for name in MINE})
    manifest = json.loads(bench.store.read(key := "models/things/1/manifest.json")) | {"commit": bench.revision}
    bench.store.replace(key, json.dumps(manifest).encode())  # in a store that was made anew
    assert bench.pin().said.startswith("dev runs things 1")


@pytest.mark.parametrize(
    ("files", "is_pinned"),
    [({"README.md": "new"}, True), ({"params.yaml": "x: 1\n"}, False), ({"conf/a.yaml": ""}, False)],
)
def test_a_later_commit_counts_when_it_changes_a_training(bench: Bench, files: dict[str, str], is_pinned: bool) -> None:
    bench.put(1)
    later = bench.commit("later", files)
    pinned = bench.pin()
    assert bool(pinned.commit) is is_pinned
    if not is_pinned:
        assert pinned.said == f"not pinned: superseded by {later[:7]} later"
        assert bench.forge.git("rev-parse", "main") == later


def test_nothing_is_pinned_when_the_commit_left_the_branch(bench: Bench) -> None:
    bench.put(1)
    bench.forge.git("update-ref", "refs/heads/main", "main~1")
    assert bench.pin().said == f"not pinned: {bench.revision[:12]} is no longer on the branch"


def test_nothing_is_pinned_when_the_run_had_other_values(bench: Bench) -> None:
    bench.put(1)
    bench.leave(
        params="# Of one run, not of the repository: started by hand with train.epochs=1\ntrain:\n  epochs: 1\n"
    )
    said = bench.pin().said
    assert said == (
        "not pinned: it was made with other values than the commit's "
        "(Of one run, not of the repository: started by hand with train.epochs=1)"
    )


def test_the_commit_is_made_anew_when_somebody_was_faster(bench: Bench) -> None:
    bench.put(1)
    hook = bench.forge.folder / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nrm hooks/pre-receive\nexit 1\n")
    hook.chmod(0o755)
    bench.during = lambda: print(bench.commit("meanwhile", {"README.md": "new"}))
    pinned = bench.pin()
    assert bench.pauses == [1.0]
    assert bench.forge.git("log", "--format=%s", "-2", "main").splitlines() == [
        "dev runs things 1, mAP50 0.900",
        "meanwhile",
    ]
    assert pinned.commit


def test_it_is_tried_again_when_the_server_is_away_for_a_while(bench: Bench) -> None:
    bench.put(1)
    bench.forge.away = True

    def come_back() -> None:
        bench.forge.away = len(bench.pauses) < 3

    bench.during = come_back
    assert bench.pin().commit
    assert bench.pauses == [1.0, 2.0, 4.0]


def test_refused_when_the_server_stays_away(bench: Bench) -> None:
    bench.put(1)
    bench.forge.away = True
    with pytest.raises(GitError, match=r"git clone: .*503"):
        bench.pin()
    assert bench.pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]


@pytest.mark.parametrize("token", ["read-token", "another", ""])
def test_refused_when_the_token_may_not_push(bench: Bench, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    bench.put(1)
    before = bench.forge.git("rev-parse", "main")
    monkeypatch.setenv("GITHUB_TOKEN", token)
    with pytest.raises(GitError, match=r"git (clone|push)"):
        bench.pin()
    assert bench.forge.git("rev-parse", "main") == before


def test_refused_when_another_file_would_change(bench: Bench) -> None:
    bench.put(1)
    with cloned(bench.forge.url, "main") as clone:
        overlay = clone / "gitops/serving/overlays/dev"
        (clone / "elsewhere").mkdir()
        (overlay / "model.env").rename(clone / "elsewhere/model.env")
        overlay.rmdir()
        overlay.symlink_to("../../../elsewhere")
        for command in (
            ["add", "-A"],
            [*BOT, "commit", "-qm", "a link"],
            ["push", "-q", str(bench.forge.folder), "HEAD:main"],
        ):
            subprocess.run(["git", *command], cwd=clone, check=True, capture_output=True)
    with pytest.raises(
        StageError, match=r"elsewhere/model\.env would change too, expected dvc\.lock and gitops/serving"
    ):
        bench.pin()


def test_refused_when_the_lock_is_none(bench: Bench) -> None:
    bench.put(1)
    bench.leave(params=FILES["params.yaml"], lock="- no lock\n")
    with pytest.raises(StageError, match=r"pipeline/run/dvc\.lock in the store is no dvc\.lock"):
        bench.pin()


def test_a_pull_request_is_opened_when_the_branch_is_protected(bench: Bench) -> None:
    bench.put(1)
    before = bench.forge.git("rev-parse", "main")
    for verb in ("opened", "brought up to date"):
        assert bench.pin(mode="pull-request").said.startswith(f"dev runs things 1, mAP50 0.900: {verb}: http")
    assert bench.forge.git("rev-parse", "main") == before
    assert bench.changed("flywheel/things") == sorted(MINE)
    assert bench.forge.pulls["flywheel/things"]["base"] == "main"


@pytest.mark.parametrize(
    ("passed", "deploy", "is_proposed"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_staging_is_proposed_when_asked_for_and_passed(
    bench: Bench, passed: bool, deploy: bool, is_proposed: bool
) -> None:
    bench.put(1, passed=passed, deploy=deploy)
    said = propose_for_staging(bench.forge.url, "main", bench.store, "things", 1)
    assert said.startswith("opened: http") is is_proposed
    if is_proposed:
        assert bench.changed("flywheel/staging") == ["gitops/serving/overlays/staging/model.env"]
        assert "| all | - → 0.900 |" in bench.forge.pulls["flywheel/staging"]["body"]


def test_the_head_is_found_when_a_run_is_started_by_hand(bench: Bench) -> None:
    assert head_of(bench.forge.url, "main") == bench.revision
    with pytest.raises(GitError, match="there is no branch nobody; correct DETECTOR_REVISION"):
        head_of(bench.forge.url, "nobody")
    with cloned(bench.forge.url, "main") as clone:
        assert newer(clone, bench.revision) == ""
