"""evaluate: figures, thresholds, curves and misses of a tiny model whose answers are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.config import Evaluate
from runner.errors import DatasetError, StageError
from runner.evaluate import evaluate

SETTINGS = Evaluate(iou=0.7, max_detections=300, worst=20)
# cx cy w h, airplane, helicopter, in an input of 32x32: always an airplane at the left, and at the right a helicopter
# that is the more confident the brighter the picture.
ANSWERS = np.array([[8, 16, 8, 8, 0.6, 0], [24, 16, 8, 8, 0, 0.1]], np.float32).T
LEFT, RIGHT = "0.25 0.5 0.25 0.25", "0.75 0.5 0.25 0.25"
Model = Callable[..., bytes]


class Project:
    """Folders as the stages before leave them."""

    def __init__(self, root: Path, onnx: bytes) -> None:
        self.root, self.index = root, list[dict[str, Any]]()
        for folder in ("raw/images", "dataset/labels", "split"):
            (root / folder).mkdir(parents=True)
        (root / "model.onnx").write_bytes(onnx)
        (root / "dataset/classes.txt").write_text("airplane\nhelicopter\n")
        self.parts: dict[str, list[str]] = {"val": [], "test": []}

    def add(self, part: str, name: str, labels: str | None, brightness: int = 0) -> None:
        Image.new("RGB", (64, 64), (brightness,) * 3).save(self.root / f"raw/images/{name}.png")
        if labels is not None:
            (self.root / f"dataset/labels/{name}.txt").write_text(labels)
        files = {"image": f"images/{name}.jpg", "source": f"images/{name}.png", "labels": f"labels/{name}.txt"}
        self.index.append(files | {"width": 64, "height": 64, "sha256": ""})
        self.parts[part].append(f"images/{name}.jpg")

    def evaluate(self, settings: Evaluate = SETTINGS, out: str = "out") -> str:
        (self.root / "dataset/index.json").write_text(json.dumps(self.index))
        for part, images in self.parts.items():
            (self.root / f"split/{part}.txt").write_text("".join(f"{image}\n" for image in images))
        onnx, raw, dataset, split = (self.root / name for name in ("model.onnx", "raw", "dataset", "split"))
        (self.root / out).mkdir()
        return evaluate(onnx, raw, dataset, split, settings, self.root / out)

    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.root / "out/metrics.json").read_text())
        return content

    def rows(self, file: str) -> list[dict[str, str]]:
        with (self.root / "out" / file).open(newline="") as lines:
            return list(csv.DictReader(lines))


@pytest.fixture
def empty(tmp_path: Path, tiny_model: Model) -> Project:
    """A project without pictures."""
    return Project(tmp_path, tiny_model(ANSWERS, bright=(5, 1)))


@pytest.fixture
def project_of_both(empty: Project) -> Project:
    """Val with both classes; test with a right one, a missed one, a confused one and one without objects."""
    empty.add("val", "v1", f"0 {LEFT}\n1 {RIGHT}\n", brightness=153)  # helicopter at 0.7
    empty.add("val", "v2", f"0 {LEFT}\n", brightness=76)  # no helicopter, found at 0.4
    empty.add("test", "both", f"0 {LEFT}\n1 {RIGHT}\n", brightness=204)
    empty.add("test", "missed", f"0 {LEFT}\n1 {RIGHT}\n", brightness=51)
    empty.add("test", "confused", f"1 {LEFT}\n")
    empty.add("test", "background", None)
    return empty


def test_null_and_said_when_nothing_is_labelled(empty: Project) -> None:
    empty.add("val", "v", None)
    empty.add("test", "t", "")
    said = empty.evaluate()
    metrics = empty.metrics()
    assert metrics["map50"] is metrics["map50_95"] is metrics["precision"] is metrics["recall"] is None
    assert metrics["threshold"] == metrics["classes"]["airplane"]["threshold"] == 0.25
    assert metrics["pictures"] == 1
    assert metrics["boxes"] == 0
    assert metrics["notes"] == [
        "val: no boxes; every threshold is 0.25, which nothing supports",
        "airplane: no boxes in test; left out of the means",
        "helicopter: no boxes in test; left out of the means",
    ]
    assert said.startswith("mAP50 none, mAP50-95 none; precision none and recall none at threshold 0.250; on 1 test")
    assert "nothing supports" in said
    assert empty.rows("pr.csv") == []


def test_figures_when_the_answers_are_known(project_of_both: Project) -> None:
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


def test_tables_for_plots_when_measured(project_of_both: Project) -> None:
    project_of_both.evaluate()
    curve = project_of_both.rows("pr.csv")
    assert list(curve[0]) == ["recall", "precision", "precision(airplane)", "precision(helicopter)"]
    assert [row["recall"] for row in curve][::50] == ["0.0", "0.5", "1.0"]
    assert [row["threshold"] for row in project_of_both.rows("thresholds.csv")][:2] == ["0.01", "0.02"]
    confusion = [(row["actual"], row["predicted"]) for row in project_of_both.rows("confusion.csv")]
    assert sorted(confusion) == [
        ("airplane", "airplane"),
        ("airplane", "airplane"),
        ("background", "airplane"),
        ("helicopter", "airplane"),
        ("helicopter", "background"),
        ("helicopter", "helicopter"),
    ]
    for name in ("curves.png", "confusion.png"):
        with Image.open(project_of_both.root / "out" / name) as picture:
            assert min(picture.size) > 250
    predictions = json.loads((project_of_both.root / "out/predictions.json").read_text())
    assert predictions["images/both.jpg"] == [
        ["helicopter", pytest.approx(0.9, abs=1e-5), 40.0, 24.0, 56.0, 40.0],
        ["airplane", pytest.approx(0.6, abs=1e-5), 8.0, 24.0, 24.0, 40.0],
    ]


def test_worst_first_when_drawn(project_of_both: Project) -> None:
    project_of_both.evaluate()
    folder = project_of_both.root / "out/misses"
    index = json.loads((folder / "index.json").read_text())
    assert [(entry["file"], entry["why"]) for entry in index] == [
        ("01-confused.jpg", "1 of 1 taken for another class"),
        ("02-missed.jpg", "1 of 2 missed"),
        ("03-background.jpg", "1 false (0.60)"),
    ]
    assert index[0]["boxes"] == [
        {
            "actual": "helicopter",
            "predicted": "airplane",
            "confidence": pytest.approx(0.6, abs=1e-5),
            "xyxy_px": [8, 24, 24, 40],
        }
    ]
    assert sorted(path.name for path in folder.glob("*.jpg")) == [entry["file"] for entry in index]
    with Image.open(folder / "01-confused.jpg") as picture:
        assert picture.size == (720, 772)


@pytest.mark.parametrize("worst", [0, 1])
def test_fewer_drawn_when_fewer_asked(worst: int, project_of_both: Project) -> None:
    project_of_both.evaluate(SETTINGS.model_copy(update={"worst": worst}))
    assert len(list((project_of_both.root / "out/misses").glob("*.jpg"))) == worst


def test_same_bytes_when_run_again(project_of_both: Project) -> None:
    project_of_both.evaluate()
    project_of_both.evaluate(out="again")
    files = sorted(
        path.relative_to(project_of_both.root / "out") for path in (project_of_both.root / "out").rglob("*.*")
    )
    assert len(files) > 8
    for file in files:
        assert (project_of_both.root / "out" / file).read_bytes() == (
            project_of_both.root / "again" / file
        ).read_bytes()


def test_matched_by_name_when_the_ids_differ(project_of_both: Project) -> None:
    project_of_both.evaluate()
    before = project_of_both.metrics()
    (project_of_both.root / "dataset/classes.txt").write_text("helicopter\nairplane\n")
    for file in (project_of_both.root / "dataset/labels").iterdir():
        lines = file.read_text().splitlines()
        file.write_text("".join(f"{1 - int(line[0])}{line[1:]}\n" for line in lines))
    (project_of_both.root / "out").rename(project_of_both.root / "before")
    project_of_both.evaluate()
    after = project_of_both.metrics()
    assert list(after["classes"]) == ["helicopter", "airplane"]
    assert after == before


def test_overall_threshold_serves_when_val_lacks_a_class(empty: Project) -> None:
    empty.add("val", "v", f"0 {LEFT}\n")
    empty.add("test", "t", f"0 {LEFT}\n1 {RIGHT}\n", brightness=255)
    empty.evaluate()
    metrics = empty.metrics()
    assert metrics["classes"]["helicopter"]["threshold"] == metrics["threshold"]
    assert metrics["notes"] == [
        f"helicopter: no boxes in val; its threshold is the overall one, {metrics['threshold']:g}"
    ]


def test_refused_when_the_classes_differ(empty: Project) -> None:
    empty.add("val", "v", None)
    empty.add("test", "t", None)
    (empty.root / "dataset/classes.txt").write_text("airplane\nballoon\n")
    with pytest.raises(StageError, match="in the model alone: helicopter; in the dataset alone: balloon"):
        empty.evaluate()


def test_refused_when_the_model_is_none(empty: Project) -> None:
    (empty.root / "model.onnx").write_bytes(b"no model")
    with pytest.raises(StageError, match=r"model\.onnx: not an ONNX model .*; run `dvc repro export`"):
        empty.evaluate()


def test_refused_when_a_picture_cannot_be_read(project_of_both: Project) -> None:
    (project_of_both.root / "raw/images/missed.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DatasetError, match=r"missed\.png: damaged or truncated PNG"):
        project_of_both.evaluate()


def test_refused_when_a_picture_is_missing(project_of_both: Project) -> None:
    (project_of_both.root / "raw/images/missed.png").unlink()
    with pytest.raises(DatasetError, match=r"missed\.png"):
        project_of_both.evaluate()


def test_refused_when_labels_are_damaged(project_of_both: Project) -> None:
    (project_of_both.root / "dataset/labels/both.txt").write_text("0 0.5 0.5 x 1\n")
    with pytest.raises(DatasetError, match=r"both\.txt: expected lines of `class x y w h`"):
        project_of_both.evaluate()


def test_refused_when_the_split_is_of_another_dataset(project_of_both: Project) -> None:
    project_of_both.parts["test"].append("images/unknown.jpg")
    with pytest.raises(DatasetError, match=r"images/unknown\.jpg is not in .*index\.json; run `dvc repro split`"):
        project_of_both.evaluate()


def test_drawn_and_written_when_names_are_odd(tmp_path: Path, tiny_model: Model) -> None:
    names = ["вертолёт $x$", "_飞机"]
    project = Project(tmp_path, tiny_model(ANSWERS, bright=(5, 1), names=repr(dict(enumerate(names)))))
    (tmp_path / "dataset/classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    project.add("val", "v", f"0 {LEFT}\n1 {RIGHT}\n", brightness=255)
    project.add("test", "größe ü", f"1 {LEFT}\n0 {RIGHT}\n", brightness=255)
    project.evaluate()
    assert list(project.metrics()["classes"]) == names
    assert (tmp_path / "out/misses/01-größe ü.jpg").is_file()
