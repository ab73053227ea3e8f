import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigError, ObjectError, StageError, StoreError
from runner.release.disagreements import KEY, LookedAt, note_looked_at
from runner.release.models import list_models, models_text
from runner.release.pin import read_pin
from runner.release.promote import choose, difference, promote
from runner.store import open_store
from tests.support.projects import set_params

ONNX = b"a model"
FIGURES = {"map50": 0.9, "map50_95": 0.5, "precision": 0.8, "recall": 0.7, "threshold": 0.4, "boxes": 30}
FAILED = {"criterion": "mAP50", "candidate": 0.9, "deployed": None, "said": "0.900, at least 0.950", "passed": False}


class Shelf:
    """A project with overlays and a store with versions in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, open_store(folder)
        for environment in ("dev", "prod", "baseline"):
            (folder / "gitops/serving/environments" / environment).mkdir(parents=True)

    def put(self, number: int, passed: bool | None = True, name: str = "things", **changes: Any) -> None:
        findings = [FAILED | {"passed": bool(passed)}]
        manifest = {
            **{"name": name, "version": number, "onnx_sha256": hashlib.sha256(ONNX).hexdigest(), "classes": ["kite"]},
            **{"metrics": {**FIGURES, "classes": {"kite": FIGURES}}, "commit": f"{number}" * 40},
            **{"verdict": None if passed is None else {"passed": passed, "findings": findings}},
            **{"dataset": {"url": "sample"}, "params": {"split": {"seed": 0}}, "created": "2026-11-25T10:00:00+00:00"},
        }
        self.store.create(f"models/{name}/{number}/model.onnx", ONNX)
        self.store.create(f"models/{name}/{number}/manifest.json", json.dumps(manifest | changes).encode())
        if passed:
            self.store.replace(f"models/{name}/latest.json", json.dumps({"version": number}).encode())

    def promote(self, to: str = "dev", number: int | None = None, model: str | None = "things", **how: Any) -> str:
        version = choose(self.folder, self.store, to, model, number)
        return promote(self.folder, self.store, to, version, **{"force": False, "allow_local": True, **how})

    def pinned(self, environment: str = "dev") -> str:
        pin = read_pin(self.folder, environment)
        return pin.version if pin else ""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Nothing in it yet."""
    return Shelf(tmp_path)


def test_refused_when_nothing_was_published(shelf: Shelf) -> None:
    with pytest.raises(ObjectError, match=r"no version of things .*`python -m runner publish` makes one$"):
        shelf.promote()
    with pytest.raises(ConfigError, match=r"/production/: .*there are: baseline, dev, prod\)"):
        shelf.promote("production")
    assert list_models(shelf.folder, shelf.store) == []
    assert "runner publish" in models_text([])


def test_the_newest_that_passed_is_pinned_when_none_is_named(shelf: Shelf) -> None:
    for number, passed in ((1, True), (2, True), (3, False)):
        shelf.put(number, passed)
    assert shelf.promote().startswith("gitops/serving/environments/dev/model.env now names things 2, mAP50 0.900; ")
    pin = read_pin(shelf.folder, "dev")
    manifest = shelf.folder / "store/models/things/2/manifest.json"
    assert pin == (str(manifest), hashlib.sha256(manifest.read_bytes()).hexdigest(), "2", "2" * 40, "0.900", "")
    assert "already" in shelf.promote()
    assert "names things 1," in shelf.promote(number=1)


def test_the_name_is_that_of_params_when_none_is_given(configured: Path) -> None:
    shelf = Shelf(configured)
    shelf.put(1, name="flyingthings")
    assert "names flyingthings 1," in shelf.promote(model=None)


def test_other_models_are_named_when_this_one_has_no_version(shelf: Shelf) -> None:
    shelf.put(1, name="kites")
    with pytest.raises(ObjectError, match=r"no version of things .*--model: kites$"):
        shelf.promote()


def test_refused_and_recorded_when_it_did_not_pass(shelf: Shelf) -> None:
    shelf.put(1, False)
    with pytest.raises(ObjectError, match="no version of things to promote: 1 did not pass the gate"):
        shelf.promote()
    reason = "the gate did not let it pass: mAP50 0.900, at least 0.950"
    with pytest.raises(StageError, match=f"things 1: {reason}; --force"):
        shelf.promote(number=1)
    assert shelf.pinned() == ""
    assert f"(forced: {reason})" in shelf.promote(number=1, force=True)
    file = shelf.folder / "gitops/serving/environments/dev/model.env"
    assert file.read_text().startswith(f"# forced: {reason}\nMODEL_URI=")
    shelf.put(2)
    shelf.promote(force=True)
    assert "#" not in file.read_text()


def test_a_stock_model_needs_no_gate_when_it_is_the_baseline(shelf: Shelf) -> None:
    shelf.put(1, None, "yolo11n", metrics={}, commit=None)
    assert "names yolo11n 1; commit" in shelf.promote("baseline", model="yolo11n")
    pin = read_pin(shelf.folder, "baseline")
    assert pin is not None and (pin.commit, pin.map50) == ("", "")
    with pytest.raises(StageError, match=r"yolo11n 1: .*--force"):
        shelf.promote("prod", 1, "yolo11n")


def test_refused_when_the_store_is_a_folder(shelf: Shelf) -> None:
    shelf.put(1)
    with pytest.raises(StoreError, match=r"models/things/1/manifest\.json: .*--allow-local"):
        shelf.promote(allow_local=False)
    assert shelf.pinned() == ""


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
@pytest.mark.parametrize("damage", [None, b"{"])
def test_refused_when_an_object_is_gone_or_damaged(shelf: Shelf, damage: bytes | None, name: str) -> None:
    shelf.put(1)
    file = shelf.folder / "store/models/things/1" / name
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(ObjectError, match=r"models/things/1/|no version 1 of things"):
        shelf.promote()
    assert shelf.pinned() == ""


def test_old_and_new_stand_side_by_side_when_asked(shelf: Shelf) -> None:
    shelf.put(1)
    new = choose(shelf.folder, shelf.store, "dev", "things", 1)
    first = difference(shelf.folder, "dev", new, markdown=False)
    assert "  model      -    things 1" in first and first.endswith("dev has no model yet")
    shelf.promote()
    better = {**FIGURES, "map50": 0.95, "classes": {"kite": {**FIGURES, "recall": 0.8}, "bird": FIGURES}}
    shelf.put(2, metrics=better, dataset={"url": "store:x"})
    version = choose(shelf.folder, shelf.store, "dev", "things", None)
    markdown = difference(shelf.folder, "dev", version, markdown=True)
    assert "| model | things 1 | things 2 |" in markdown
    assert "| all | 0.900 → 0.950 | 0.500 → 0.500 |" in markdown
    assert "| bird | - → 0.900 |" in markdown
    assert markdown.endswith("- the test parts differ, so the figures are not of the same pictures")
    assert shelf.pinned() == "1"
    (shelf.folder / "store/models/things/1/manifest.json").unlink()
    assert "which cannot be read: " in difference(shelf.folder, "dev", version, markdown=False)


@pytest.mark.parametrize(
    ("tasks", "looked_at", "said"),
    [
        (0, 0, "looked at 0 .* at least 2 .*: 2 are missing; a server captures more while SHADOW_URI names it"),
        (5, 1, "looked at 1 .*: 1 are missing; 4 wait at http://labels/7, .* last at 2026-11-30 10:00 UTC; --force"),
        (1, 0, "looked at 0 .*; 1 wait at http://labels/7, .*SHADOW_URI"),
        (2, 2, ""),
    ],
)
def test_disagreements_are_looked_at_before_prod(configured: Path, tasks: int, looked_at: int, said: str) -> None:
    shelf = Shelf(configured)
    shelf.put(1)
    set_params(configured, {"gate": {"disagreements": 2}})
    other = {"things 2": LookedAt(tasks=9, looked_at=9)}
    counts = {"things 1": LookedAt(tasks=tasks, looked_at=looked_at)} if tasks else {}
    note_looked_at(shelf.store, "http://labels/7", counts | other, datetime(2026, 11, 30, 10, tzinfo=UTC))
    shelf.promote("dev")
    if said:
        with pytest.raises(StageError, match=f"things 1: people {said}"):
            shelf.promote("prod")
        assert shelf.pinned("prod") == ""
    assert ("forced: people looked at" in shelf.promote("prod", force=True)) == bool(said)


def test_it_is_said_when_nobody_counted_or_the_counts_are_damaged(configured: Path) -> None:
    shelf = Shelf(configured)
    shelf.put(1)
    set_params(configured, {"gate": {"disagreements": 2}})
    with pytest.raises(StageError, match=r"2 are missing; .*counts anew; --force"):
        shelf.promote("prod")
    shelf.store.replace(KEY, b"{}")
    with pytest.raises(ObjectError, match=f"{KEY} is damaged"):
        shelf.promote("prod")


def test_all_are_listed_with_where_they_run_when_published(configured: Path) -> None:
    shelf = Shelf(configured)
    shelf.put(1)
    shelf.put(2)
    shelf.put(3, False)
    shelf.put(1, None, "yolo11n", metrics={})
    shelf.promote(number=1)
    shelf.promote("prod", number=1)
    (shelf.folder / "store/models/things/3/manifest.json").write_text("{")
    entries = list_models(shelf.folder, shelf.store)
    assert [(each["model"], each["version"], each["latest"], each["environments"]) for each in entries] == [
        ("things", 3, False, []),
        ("things", 2, True, []),
        ("things", 1, False, ["dev", "prod"]),
        ("yolo11n", 1, False, []),
    ]
    text = models_text(entries)
    assert "things   2        0.900  passed, latest  222222222222  2026-11-25T10:00:00+00:00  no      -" in text
    assert "damaged" in text and "models/things/3/manifest.json: not a manifest" in text
    assert "| yolo11n | 1 | - | not judged |" in models_text(entries, markdown=True)
    assert len(list_models(shelf.folder, shelf.store, "yolo11n")) == 1
