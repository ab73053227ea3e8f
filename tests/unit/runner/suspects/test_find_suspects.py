import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from runner.__main__ import main
from runner.config.schema import SplitConfig
from runner.errors import StageError
from runner.suspects.find_suspects import find_suspects
from runner.suspects.folds import deal_folds
from runner.suspects.suspect_files import write_suspects
from tests.support.trained import LEFT, RIGHT, Trained

FAR = "0.5 0.15 0.2 0.2"
SHIFTED = "0.85 0.62 0.25 0.25"
BOTH = f"0 {LEFT}\n1 {RIGHT}\n"
PLANTED = {  # name → labels, kind; the model finds an airplane at the left and a helicopter at the right
    "dropped": (f"0 {LEFT}\n", "missed"),
    "added": (f"{BOTH}1 {FAR}\n", "extra"),
    "swapped": (f"0 {LEFT}\n0 {RIGHT}\n", "wrong class"),
    "shifted": (f"0 {LEFT}\n1 {SHIFTED}\n", "badly placed"),
}


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """A project whose test part has an error of each kind, beside 24 right pictures."""
    project = Trained(tmp_path)
    for number in range(20):
        project.folders.add("val", f"right{number}", BOTH, brightness=200 + number)
    for name, (labels, _) in PLANTED.items():
        project.folders.add("test", name, labels, brightness=220)
    project.folders.add("train", "of train", "", brightness=220)
    project.repro()
    return project


def test_an_error_of_each_kind_comes_first(trained: Trained) -> None:
    judgement = find_suspects(trained.folder)
    first = {Path(judgement.pictures[each.picture].example.name).stem: each.kind for each in judgement.suspects[:4]}
    assert first == {name: kind for name, (_, kind) in PLANTED.items()}
    assert {picture.part for picture in judgement.pictures} == {"val", "test"}
    assert {each.part for each in find_suspects(trained.folder, parts=["val"]).pictures} == {"val"}


def test_they_are_listed_and_drawn(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained.folder)
    assert main(["labels", "suspects"]) == 0
    said, folder = capsys.readouterr().out, trained.folder / "reports/suspects"
    assert "dropped.png" in said and "missed helicopter" in said and str(Path("reports/suspects")) in said
    content = json.loads((folder / "suspects.json").read_text())
    rows = list(csv.DictReader((folder / "suspects.csv").read_text().splitlines()))
    assert content["pictures"] == {"val": 24, "test": 8} and content["boxes"] == 2 * 32 + 0
    assert [row["picture"] for row in rows] == [each["picture"] for each in content["suspects"]]
    by_name = {each["picture"]: each for each in content["suspects"][:4]}
    assert by_name["dropped.png"]["label"] is None
    assert by_name["dropped.png"]["model_box"] == pytest.approx([40, 24, 56, 40])
    assert by_name["swapped.png"]["label_box"] == pytest.approx([40, 24, 56, 40])
    assert (by_name["swapped.png"]["label"], by_name["swapped.png"]["model"]) == ("airplane", "helicopter")
    with Image.open(folder / "suspects.png") as sheet:
        colours = sheet.convert("RGB").getcolors(2**24) or []
    assert {(0xC9, 0x6A, 0x00), (0x1F, 0x6F, 0xD0)} <= {colour for _, colour in colours}


def test_files_are_written_too_when_there_is_no_suspect(tmp_path: Path) -> None:
    right = Trained(tmp_path)
    text = write_suspects(tmp_path, find_suspects(right.folder))
    assert text.startswith("8 pictures judged (4 of val, 4 of test), 16 boxes\n0 suspects")
    assert json.loads((tmp_path / "reports/suspects/suspects.json").read_text())["suspects"] == []


def test_the_missing_step_is_named_when_nothing_was_trained(trained: Trained) -> None:
    with pytest.raises(StageError, match="--folds is 1"):
        find_suspects(trained.folder, folds=1)
    trained.folders.onnx.unlink()
    with pytest.raises(StageError, match=r"model\.onnx.*dvc repro"):
        find_suspects(trained.folder)


def test_folds_keep_clips_together_and_leave_no_picture_out() -> None:
    settings = SplitConfig.model_validate(
        {"mode": "auto", "val": 0.1, "test": 0.1, "seed": 0, "group": "^(.*)_f", "near": "keep"}
    )
    entries = [
        {"source": f"images/clip{clip}_f{frame}.jpg", "image": f"images/{clip}-{frame}.jpg", "sha256": f"{clip}{frame}"}
        for clip in range(12)
        for frame in range(3)
    ]
    folds = deal_folds(entries, settings, 3)
    assert sorted(image for fold in folds for image in fold) == sorted(each["image"] for each in entries)
    clips = [{image.partition("-")[0] for image in fold} for fold in folds]
    assert not (clips[0] & clips[1] or clips[0] & clips[2] or clips[1] & clips[2])
    with pytest.raises(StageError, match="--folds 3"):
        deal_folds(entries[:3], settings, 3)
