import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from runner.errors import StageError, StoreError
from runner.release.contents import releasing
from runner.release.measured import measure
from runner.release.pin import pin_file
from runner.release.publish import publish
from runner.release.verdict import verdict_file
from runner.store import open_store
from serving.storage.manifest import Manifest
from tests.support.projects import IDENTITY, git
from tests.support.trained import Trained, blind
from tests.unit.conftest import model


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A project that the gate has judged, not in a repository."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    trained = Trained(tmp_path / "project")
    monkeypatch.chdir(trained.folder)
    trained.judge()
    return trained


def manifest_of(trained: Trained) -> Manifest:
    with releasing(trained.folder) as release:
        return release.manifest


def test_refused_when_the_verdict_is_about_another_model_or_other_criteria(trained: Trained) -> None:
    trained.set(gate={"deploy": True})
    verdict = manifest_of(trained).verdict
    assert verdict is not None and not verdict.deploy  # no criterion: what the gate read counts
    trained.set(gate={"min_map50": 0.1})
    with pytest.raises(StageError, match=r"verdict\.json: .* criteria"):
        manifest_of(trained)
    trained.repro(blind())
    with pytest.raises(StageError, match=rf"verdict\.json: .*another model.*{verdict.onnx_sha256[:12]}"):
        manifest_of(trained)


@pytest.mark.parametrize("content", [None, "", '{"passed": []}'])
def test_refused_when_there_is_no_verdict(trained: Trained, content: str | None) -> None:
    file = verdict_file(trained.folder / ".work")
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(StageError, match=r"verdict\.json"):
        manifest_of(trained)


@pytest.mark.parametrize("file", ["dvc.lock", "artifacts/model/best.pt", "artifacts/report/report.json"])
def test_refused_when_a_file_of_the_run_is_missing(trained: Trained, file: str) -> None:
    (trained.folder / file).unlink()
    with pytest.raises(StageError, match=rf"{file} is missing"):
        manifest_of(trained)


def test_commit_and_changes_are_said_when_there_are_any(trained: Trained) -> None:
    manifest = manifest_of(trained)
    assert manifest.commit is None and manifest.work_tree.startswith("no commit: git rev-parse: fatal: not a git")
    git(trained.folder, "init", "-q")
    assert manifest_of(trained).work_tree.startswith("no commit: ")
    git(trained.folder, "add", "params.yaml", "conf")
    git(trained.folder, *IDENTITY, "commit", "-qm", "first")
    manifest = manifest_of(trained)
    assert manifest.commit == git(trained.folder, "rev-parse", "HEAD")
    assert manifest.work_tree == "as committed"  # artifacts, dvc.lock and the store do not count
    (trained.folder / "params.yaml").write_text((trained.folder / "params.yaml").read_text() + "# a note\n")
    (trained.folder / "conf/new.yaml").write_text("")
    assert manifest_of(trained).work_tree == "changed since: params.yaml, conf/new.yaml"
    assert not list((trained.folder / ".work").glob("publish-*"))  # the scratch folders of all these


def test_a_baseline_is_refused_when_it_is_not_weights(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "yolo.pt").write_bytes(b"<html>")
    with pytest.raises(StoreError, match=r"yolo\.pt"), releasing(trained.folder, tmp_path / "yolo.pt"):
        pass
    with pytest.raises(StageError, match=r"gone\.onnx: there is no"), releasing(trained.folder, tmp_path / "gone.onnx"):
        pass


# As `seeing`: cx cy w h as shares, then logits of both classes; the helicopter's grows with the picture's brightness.
QUERIES = np.array([[0.25, 0.5, 0.25, 0.25, 2, -9], [0.75, 0.5, 0.25, 0.25, -9, 0.5]], np.float32)
DECLARATION = """\
classes: [airplane, helicopter]
preprocessing: {input_shape: stretch, decoding: full}
output: {form: queries, boxes: output0, scores: output0, columns: [4, 5]}
"""


@pytest.fixture
def foreign(trained: Trained) -> tuple[Path, Path]:
    """A model of another family, and its declaration."""
    onnx, declaration = trained.folder / "detr.onnx", trained.folder / "detr.yaml"
    onnx.write_bytes(model(QUERIES, bright=(1, 5), names="{0: 'a', 1: 'b'}"))
    declaration.write_text(DECLARATION)
    return onnx, declaration


def test_a_model_of_another_family_is_published_measured_and_compared(
    trained: Trained, foreign: tuple[Path, Path]
) -> None:
    store = open_store(trained.folder)
    with releasing(trained.folder, *foreign) as release:
        first, second = publish(store, release), publish(store, release)
    assert (first.version, first.is_new, second.is_new) == (second.version, True, False)
    kept = trained.folder / "store/models/detr/1"
    assert (kept / "model.onnx").read_bytes() == foreign[0].read_bytes()
    written = json.loads((kept / "manifest.json").read_text())
    assert written["classes"] == ["airplane", "helicopter"]
    assert {key: written[key] for key in ("preprocessing", "output")} == {
        key: yaml.safe_load(DECLARATION)[key] for key in ("preprocessing", "output")
    }
    assert "mAP50 1.000" in measure(trained.folder, first.uri)
    pin = trained.folder / pin_file("dev")
    pin.parent.mkdir(parents=True)
    pin.write_text(
        f"MODEL_URI={first.uri}\nMODEL_SHA256={first.version.sha256}\nMODEL_VERSION=1\nMODEL_COMMIT=\nMODEL_MAP50=\n"
    )
    verdict = trained.judge()
    assert verdict.deployed is not None and verdict.deployed.model == "detr"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stretch", "strech", "preprocessing.input_shape"),
        (", decoding: full", "", "no decoding"),
        ("form: queries", "form: queries, scale: 1", "unknown key 'scale'"),
        ("columns: [4, 5]", "columns: [4, 7]", "8 or more"),
        (", scores: output0", "", "output: .*expected their names"),
        ("output: {", "outputs: {", "output: Field required"),
        (DECLARATION, "[", "cannot be read"),
    ],
)
def test_refused_when_a_declaration_is_wrong(
    old: str, new: str, message: str, trained: Trained, foreign: tuple[Path, Path]
) -> None:
    foreign[1].write_text(DECLARATION.replace(old, new))
    with pytest.raises(StageError, match=message), releasing(trained.folder, *foreign):
        pass
    with pytest.raises(StageError), releasing(trained.folder, foreign[0]):
        pass
