import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from runner.dataset.picture_cache import keep_bytes
from runner.errors import DatasetError, StageError
from tests.support.trained import LEFT, RIGHT, SETTINGS, Folders, seeing


def rows(folders: Folders, file: str) -> list[dict[str, str]]:
    """The rows of a table that evaluate wrote."""
    with (folders.root / "evaluation" / file).open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def empty(tmp_path: Path) -> Folders:
    """A project without pictures."""
    return Folders(tmp_path, seeing())


@pytest.fixture
def project_of_both(empty: Folders) -> Folders:
    """Val with both classes; test with a right one, a missed one, a confused one and one without objects."""
    empty.add("val", "v1", f"0 {LEFT}\n1 {RIGHT}\n", brightness=153)  # helicopter at 0.7
    empty.add("val", "v2", f"0 {LEFT}\n", brightness=76)  # no helicopter, found at 0.4
    empty.add("test", "both", f"0 {LEFT}\n1 {RIGHT}\n", brightness=204)
    empty.add("test", "missed", f"0 {LEFT}\n1 {RIGHT}\n", brightness=51)
    empty.add("test", "confused", f"1 {LEFT}\n")
    empty.add("test", "background", None)
    return empty


def test_null_and_said_when_nothing_is_labelled(empty: Folders) -> None:
    empty.add("val", "v", None)
    empty.add("test", "t", "")
    said = empty.evaluate()
    metrics = empty.metrics()
    assert metrics["map50"] is metrics["map50_95"] is metrics["precision"] is metrics["recall"] is None
    assert metrics["threshold"] == metrics["classes"]["airplane"]["threshold"] == 0.25
    assert metrics["pictures"] == 1
    assert metrics["boxes"] == 0
    assert metrics["notes"] == [
        "val: no boxes; default threshold 0.25 for every class",
        "airplane: no boxes in test; left out of the means",
        "helicopter: no boxes in test; left out of the means",
    ]
    assert said.startswith("mAP50 -, mAP50-95 -, precision -, recall -, threshold 0.250; on 1 test")
    assert said.splitlines()[1:] == metrics["notes"]
    assert rows(empty, "pr.csv") == []


def test_figures_when_the_answers_are_known(project_of_both: Folders) -> None:
    said = project_of_both.evaluate()
    metrics = project_of_both.metrics()
    assert metrics["notes"] == []
    assert (metrics["pictures"], metrics["boxes"]) == (4, 5)
    airplane, helicopter = metrics["classes"]["airplane"], metrics["classes"]["helicopter"]
    # Airplanes: found in all four pictures at 0.6, right in two.
    assert (airplane["boxes"], airplane["precision"], airplane["recall"]) == (2, 0.5, 1)
    # Helicopters: of val's 0.7 (right) and 0.4 (false), the middle is 0.55; in test one at 0.9 is right, 0.3 is missed.
    assert helicopter["threshold"] == pytest.approx(0.55, abs=0.002)
    assert (helicopter["boxes"], helicopter["precision"]) == (3, 1)
    assert helicopter["recall"] == pytest.approx(1 / 3, abs=1e-6)
    assert metrics["map50"] == pytest.approx((airplane["map50"] + helicopter["map50"]) / 2)
    assert metrics["map50_95"] <= metrics["map50"]
    assert 0.1 < metrics["threshold"] < 0.6
    assert said.startswith(f"mAP50 {metrics['map50']:.3f}")


def test_tables_for_plots_when_measured(project_of_both: Folders) -> None:
    project_of_both.evaluate()
    curve = rows(project_of_both, "pr.csv")
    assert list(curve[0]) == ["recall", "precision", "precision(airplane)", "precision(helicopter)"]
    assert [row["recall"] for row in curve][::50] == ["0.0", "0.5", "1.0"]
    assert [row["threshold"] for row in rows(project_of_both, "thresholds.csv")][:2] == ["0.01", "0.02"]
    confusion = [(row["actual"], row["predicted"]) for row in rows(project_of_both, "confusion.csv")]
    assert sorted(confusion) == [
        ("airplane", "airplane"),
        ("airplane", "airplane"),
        ("background", "airplane"),
        ("helicopter", "airplane"),
        ("helicopter", "background"),
        ("helicopter", "helicopter"),
    ]
    for name in ("curves.png", "confusion.png"):
        with Image.open(project_of_both.root / "evaluation" / name) as picture:
            assert min(picture.size) > 250
    predictions = json.loads((project_of_both.root / "evaluation/predictions.json").read_text())
    assert predictions["images/both.jpg"] == [
        ["helicopter", pytest.approx(0.9, abs=1e-5), 40.0, 24.0, 56.0, 40.0],
        ["airplane", pytest.approx(0.6, abs=1e-5), 8.0, 24.0, 24.0, 40.0],
    ]


def test_worst_first_when_drawn(project_of_both: Folders) -> None:
    project_of_both.evaluate()
    folder = project_of_both.root / "evaluation/misses"
    index = json.loads((folder / "index.json").read_text())
    assert [(entry["file"], entry["why"]) for entry in index] == [
        ("01-confused.jpg", "1 of 1 taken for another class"),
        ("02-missed.jpg", "1 of 2 missed"),
        ("03-background.jpg", "1 false (0.60)"),
    ]
    confused = {"actual": "helicopter", "predicted": "airplane", "confidence": pytest.approx(0.6, abs=1e-5)}
    assert index[0]["boxes"] == [confused | {"xyxy_px": [8, 24, 24, 40]}]
    assert sorted(path.name for path in folder.glob("*.jpg")) == [entry["file"] for entry in index]
    with Image.open(folder / "01-confused.jpg") as picture:
        assert picture.size == (720, 772)
    for worst in (0, 1):
        project_of_both.evaluate(SETTINGS.model_copy(update={"worst": worst}), out=f"worst {worst}")
        assert len(list((project_of_both.root / f"worst {worst}/misses").glob("*.jpg"))) == worst


def test_matched_by_name_when_the_ids_differ(project_of_both: Folders) -> None:
    project_of_both.evaluate()
    before = project_of_both.metrics()
    (project_of_both.root / "dataset/classes.txt").write_text("helicopter\nairplane\n")
    for entry in project_of_both.index:
        entry["labels"] = "".join(f"{1 - int(line[0])}{line[1:]}\n" for line in entry["labels"].splitlines())
    (project_of_both.root / "evaluation").rename(project_of_both.root / "before")
    project_of_both.evaluate()
    after = project_of_both.metrics()
    assert list(after["classes"]) == ["helicopter", "airplane"]
    assert after == before


def test_overall_threshold_serves_when_val_lacks_a_class(empty: Folders) -> None:
    empty.add("val", "v", f"0 {LEFT}\n")
    empty.add("test", "t", f"0 {LEFT}\n1 {RIGHT}\n", brightness=255)
    empty.evaluate()
    metrics = empty.metrics()
    assert metrics["classes"]["helicopter"]["threshold"] == metrics["threshold"]
    assert metrics["notes"] == [
        f"helicopter: no boxes in val; its threshold is the overall one, {metrics['threshold']:g}"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x89PNG\r\n\x1a\nbroken", "1 pictures .* are not in "), (None, "1 pictures .* are not in ")],
)
def test_refused_when_a_picture_is_damaged_or_missing_everywhere(
    project_of_both: Folders, content: bytes | None, message: str
) -> None:
    path = project_of_both.picture("missed")
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"{message}.*{path.name}.*dvc repro --force"):
        project_of_both.evaluate()


def test_refused_when_the_model_or_labels_are_damaged(project_of_both: Folders) -> None:
    project_of_both.index[2]["labels"] = "0 0.5 0.5 x 1\n"
    with pytest.raises(DatasetError, match=r"images/both\.jpg: expected labels of `class x y w h`"):
        project_of_both.evaluate()
    project_of_both.onnx.write_bytes(b"no model")
    with pytest.raises(StageError, match=r"model\.onnx: not an ONNX model"):
        project_of_both.evaluate(out="again")


def test_a_picture_is_named_when_it_cannot_be_decoded(project_of_both: Folders) -> None:
    data = b"\x89PNG\r\n\x1a\nbroken"
    project_of_both.index[3] |= {"sha256": keep_bytes(data, project_of_both.work), "bytes": len(data)}
    with pytest.raises(DatasetError, match=r"images/missed\.jpg \(.*: damaged PNG"):
        project_of_both.evaluate()


def test_refused_when_split_or_classes_are_of_another_dataset(project_of_both: Folders) -> None:
    project_of_both.parts["test"].append("images/unknown.jpg")
    with pytest.raises(DatasetError, match=r"images/unknown\.jpg is not in .*index\.jsonl"):
        project_of_both.evaluate()
    (project_of_both.root / "dataset/classes.txt").write_text("airplane\nballoon\n")
    with pytest.raises(StageError, match="in the model alone: helicopter; in the dataset alone: balloon"):
        project_of_both.evaluate(out="again")


def test_drawn_and_written_when_names_are_odd(tmp_path: Path) -> None:
    names = ["вертолёт $x$", "_飞机"]
    project = Folders(tmp_path, seeing(names=repr(dict(enumerate(names)))))
    (tmp_path / "dataset/classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    project.add("val", "v", f"0 {LEFT}\n1 {RIGHT}\n", brightness=255)
    project.add("test", "größe ü", f"1 {LEFT}\n0 {RIGHT}\n", brightness=255)
    project.evaluate()
    assert list(project.metrics()["classes"]) == names
    assert (tmp_path / "evaluation/misses/01-größe ü.jpg").is_file()
