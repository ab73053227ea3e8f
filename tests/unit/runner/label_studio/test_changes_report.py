"""What the pull request of new labels tells, with a published model whose answers are known."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from runner.config.compose import compose
from runner.dataset.check import make_row, read_facts
from runner.dataset.diff import OpenedVersion
from runner.dataset.index import Index, PictureRow
from runner.label_studio.annotations import Annotation
from runner.label_studio.changes_report import changes_table, draw_sheet, origins_text, suspects_text
from runner.label_studio.merge import MergedDataset
from runner.release.promote import promote
from runner.store import open_store
from runner.store.published import read_version
from runner.workspace import sha256_of
from tests.support.pictures import encoded
from tests.support.trained import LEFT, RIGHT, Trained

CLASSES = ["airplane", "helicopter"]
BOTH = f"0 {LEFT}\n1 {RIGHT}\n"


def row(name: str, labels: str) -> PictureRow:
    return PictureRow(name.ljust(64, "0"), name, 100, 32, 32, None, labels)


def added(folder: Path, labels: dict[str, str]) -> MergedDataset:
    """Return an empty dataset with new pictures, by name."""
    files = {}
    for number, name in enumerate(labels):
        files[name] = folder / name
        files[name].write_bytes(encoded(Image.new("RGB", (32, 32), (200 + number,) * 3), "PNG"))
    facts = dict(zip(files, read_facts(list(files.values())), strict=True))
    rows = [make_row(name, facts[name], None, labels[name]) for name in files]
    by_digest = {sha256_of(file): file for file in files.values()}
    return MergedDataset(Index(CLASSES, {}, rows), by_digest, list(labels))


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """A project whose dev runs the model."""
    folder = tmp_path / "project"
    folder.mkdir()
    made = Trained(folder)
    (folder / "gitops/serving/environments/dev").mkdir(parents=True)
    (folder / "gitops/serving/environments/dev/model.env").write_text("MODEL_URI=\n")
    return made


def test_the_table_adds_up_when_pictures_came_changed_and_went() -> None:
    before = Index(["airplane", "car"], {}, [row("kept", "0 a\n"), row("changed", "0 a\n1 b\n"), row("gone", "")])
    after = Index(CLASSES, {}, [row("kept", "0 a\n"), row("changed", "1 a\n1 c\n"), row("new", "1 a\n")])
    assert changes_table(before, after).rows == [
        ("", "before", "added", "relabelled", "removed", "after"),
        ("pictures", "3", "1", "1", "1", "3"),
        ("without a box", "1", "", "", "-1", "0"),
        ("boxes of airplane", "2", "", "-1", "", "1"),
        ("boxes of helicopter", "0", "+1", "+2", "", "3"),
        ("boxes of car", "1", "", "-1", "", "0"),
    ]
    assert changes_table(Index([], {}, []), Index([], {}, [])).rows[1:] == [
        ("pictures", "0", "0", "0", "0", "0"),
        ("without a box", "0", "", "", "", "0"),
    ]


def test_captures_are_named_and_their_words_do_nothing(tmp_path: Path) -> None:
    merged = added(tmp_path, {"seen.png": BOTH, "drawn.png": ""})
    data = {"origin": "feedback", "environment": "dev", "verdict": "missed", "model": "@all ![x](http://x) `<b>`\n# y"}
    newest = {
        each.sha256: Annotation(1, data if each.name == "seen.png" else {}, [], datetime.now(UTC))
        for each in merged.index.rows
    }
    text = origins_text(merged, newest)
    assert "| feedback | 1 | 0 |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("- ")]
    assert line.startswith("- seen.png: `feedback` `dev` `") and "`missed`" in line
    assert not set("@![]<>#") & set(line) and line.count("`") == 8


def test_no_label_is_examined_when_dev_runs_nothing(trained: Trained, tmp_path: Path) -> None:
    config, _ = compose(trained.folder)
    assert suspects_text(trained.folder, config, added(tmp_path, {})) == ""
    text = suspects_text(trained.folder, config, added(tmp_path, {"a.png": BOTH}))
    assert "dev has no model yet" in text


def test_labels_are_named_when_the_deployed_model_contradicts_them(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.folder)
    trained.judge()
    number = trained.publish().version.number
    config, _ = compose(trained.folder)
    store = open_store(trained.folder)
    version = read_version(store, config.model.name, number)
    promote(trained.folder, store, "dev", version, force=False, allow_local=True)
    right = {f"right-{number}.png": BOTH for number in range(6)}
    merged = added(tmp_path, right | {"swapped.png": f"1 {LEFT}\n1 {RIGHT}\n"})
    text = suspects_text(trained.folder, config, merged)
    table = [line for line in text.splitlines() if line.startswith("| 1 ")]
    assert f"{config.model.name} {number}" in text
    assert len(table) == 1 and "wrong class" in table[0] and "swapped.png" in table[0]
    assert "helicopter, the model finds airplane" in table[0] and "right-" not in text


def test_the_sheet_shows_old_boxes_beside_new_ones(trained: Trained, tmp_path: Path) -> None:
    merged = added(tmp_path, {"a.png": BOTH, "b.png": BOTH})
    (first, second) = merged.index.rows
    before = OpenedVersion(Index(CLASSES, {}, [first._replace(labels="")]), merged.files, "")
    after = OpenedVersion(merged.index, merged.files, "")
    data = draw_sheet(before, after, open_store(trained.folder), trained.folder)
    sheet = Image.open(io.BytesIO(data))
    assert sheet.format == "JPEG"
    colours = [len(sheet.crop((220 * cell, 0, 220 * cell + 220, 220)).getcolors(1 << 16) or []) for cell in range(3)]
    assert min(colours[1:]) > colours[0] > 1 and second.labels
