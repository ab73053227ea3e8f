from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.compose import compose
from runner.retrain import tasks
from runner.store.folder import FolderStore
from serving.storage.manifest import Verdict
from tests.conftest import PROJECT


@pytest.mark.parametrize(("least", "stays"), [(0.0, True), (1.1, False)])
def test_the_cache_is_emptied_when_its_volume_is_nearly_full_and_no_other_run_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float, stays: bool
) -> None:
    monkeypatch.setattr(tasks, "_FREE_SHARE", least)
    monkeypatch.setenv("RUNNER_WORK", str(tmp_path / "work"))
    cache, picture = tmp_path / "dvc", tmp_path / "work/pictures/0"
    picture.parent.mkdir(parents=True)
    picture.touch()
    with tasks._using(cache):
        (cache / "files").mkdir(parents=True)
        with tasks._using(cache):
            assert cache.exists()
    with tasks._using(cache):
        assert cache.exists() is picture.exists() is stays


def test_files_arrive_as_they_were_when_a_later_task_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORE_URI", str(tmp_path / "store"))
    monkeypatch.setattr(tasks, "use_store", lambda _: "")
    monkeypatch.chdir(tmp_path)
    params, verdict = Path("params.yaml"), Path(".work/verdict.json")
    with tasks._handing_on("run"):
        assert "from earlier Tasks: nothing" in capsys.readouterr().out
        verdict.parent.mkdir()
        verdict.write_text("{}")
        params.write_bytes(b"a: 1\r\n")
    with tasks._handing_on("other"):
        params.write_text("b: 2\n")
        verdict.unlink()
    with tasks._handing_on("run"):
        assert (params.read_bytes(), verdict.read_text()) == (b"a: 1\r\n", "{}")


class Clones:
    """Tasks of a run, each in a clone of its own, with a store between them and DVC's real commands.

    The stages are those of dvc.yaml, but make files of a word and of what they depend on, out of each other's alone.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch, self.log = folder, monkeypatch, folder / "log"
        self.count = 0
        self.stages: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        for name, stage in self.stages.items():
            stage["deps"] = [dep for dep in stage["deps"] if dep.startswith("artifacts/")]
            self.change(name, name)
        settings = {"STORE_URI": str(folder / "store"), "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{folder}/site"}
        settings["RUNNER_DEVICE"] = "cpu"
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        (folder / "store").mkdir()

    def change(self, name: str, word: str) -> None:
        """Let a stage make other files than before."""
        stage = self.stages[name]
        outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
        content = f"(echo {word}; cat {' '.join(stage['deps'])} < /dev/null)"
        making = [f"mkdir -p $(dirname {out}) && {content} > {out}" for out in outs]
        stage["cmd"] = [*making, f"echo {name} >> {self.log}", f"echo $RUNNER_DEVICE > {self.folder / name}"]

    def run(self, task: Callable[..., object], **settings: Any) -> list[str]:
        """Run a Task in a fresh clone; return the stages that ran."""
        self.count += 1
        clone = self.folder / f"clone-{self.count}"
        (clone / ".dvc").mkdir(parents=True)
        (clone / ".dvc/config").write_text("[core]\n    no_scm = true\n    remote = store\n")
        (clone / "params.yaml").write_text("epochs: 1\n")
        (clone / "dvc.yaml").write_text(yaml.safe_dump({"stages": self.stages}))
        self.monkeypatch.chdir(clone)
        self.log.write_text("")
        task("run", **settings)
        return sorted(self.log.read_text().split())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pygtrie's, which DVC uses
def test_no_stage_before_it_runs_in_train_when_prepare_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clones = Clones(tmp_path, monkeypatch)
    monkeypatch.setattr("runner.release.gate.gate", lambda _: Verdict(passed=True))
    monkeypatch.setattr("runner.release.contents.releasing", lambda _: nullcontext())  # words are no model
    monkeypatch.setattr("runner.release.staging.stage", lambda *_: None)
    monkeypatch.setattr(tasks, "_share_pictures", lambda: "")  # there are none
    assert clones.run(tasks.prepare) == ["compose", "fetch", "prepare", "split"]
    assert clones.run(tasks.train, cache=tmp_path / "volume/dvc", fallback=False) == ["train"]
    assert (tmp_path / "train").read_text() == "all\n"  # the GPUs of its Pod
    assert clones.run(tasks.gate) == ["evaluate", "export"]
    assert clones.run(tasks.train, cache=tmp_path / "other/dvc", fallback=False) == []
    assert clones.run(tasks.gate) == []
    clones.change(
        "fetch", "others"
    )  # other pictures, and nothing else: it is train that trains on them, where the GPU is
    assert clones.run(tasks.prepare) == ["fetch", "prepare", "split"]
    assert clones.run(tasks.train, cache=tmp_path / "volume/dvc", fallback=False) == ["train"]
    assert clones.run(tasks.gate) == ["evaluate", "export"]


def lock(**digests: str) -> bytes:
    outs = [{"path": f"artifacts/{name}", "md5": digest} for name, digest in digests.items()]
    return yaml.safe_dump({"stages": {"any": {"outs": outs}}}).encode()


def test_a_version_is_known_when_its_results_are_those_of_the_lock(configured: Path) -> None:
    store = FolderStore(configured / "store")
    (configured / "dvc.lock").write_bytes(lock(model="1", export="2", evaluation="3", raw="4"))
    name = compose(configured)[0].model.name
    assert not tasks._is_published(store, configured)
    for number, file in enumerate((lock(model="1", export="2", evaluation="9"), None, lock(model="1")), 1):
        store.create(f"models/{name}/{number}/manifest.json", b"{}")
        if file:
            store.create(f"runs/{name}/{number}/dvc.lock", file)
    assert not tasks._is_published(store, configured)
    for number, manifest, is_known in ((4, b'{"trial": "gate.min_map50=0"}', False), (5, b"{}", True)):
        store.create(f"models/{name}/{number}/manifest.json", manifest)
        found = lock(model="1", export="2", evaluation="3", raw="of another fetch")
        store.create(f"runs/{name}/{number}/dvc.lock", found)
        assert tasks._is_published(store, configured) is is_known
