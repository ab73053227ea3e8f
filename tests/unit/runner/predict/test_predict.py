"""Every picture of a folder gets a row, whatever happens to the command or is in the picture."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.errors import ConfigError, DatasetError, StageError
from runner.predict.drawn import check_folder, draw_pictures, file_of
from runner.predict.predict import predict
from tests.conftest import PROJECT
from tests.support.pictures import encoded, turned
from tests.support.trained import seeing
from tests.support.trees import write_tree

# A brightness of 51 makes the helicopter's confidence 0.3, one of 26 makes it 0.2; the threshold is 0.25.
SURE, UNSURE, ALMOST = 200, 51, 26
Rows = dict[str, dict[str, Any]]


def shade(brightness: int, width: int = 64) -> bytes:
    return encoded(Image.new("RGB", (width, 64), (brightness,) * 3), "PNG")


def rows_of(file: Path) -> Rows:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len({row["picture"] for row in rows}) == len(rows)
    return {row["picture"]: row for row in rows}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model, and a folder of pictures beside it."""
    for name in ("MODEL_URI", "MODEL_SHA256"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "a project ü"
    project.mkdir()
    (project / "model.onnx").write_bytes(seeing())
    files: dict[str, str | bytes] = {f"clip {number}/{number:02}.png": shade(SURE, 64 + number) for number in range(9)}
    write_tree(project / "pictures", files)
    return project


def run(project: Path, target: str = "out.jsonl", part: int = 4) -> Rows:
    predict(project, "pictures", project / target, "model.onnx", part=part)
    return rows_of(project / target)


def test_a_row_has_what_the_server_finds_and_how_near_to_a_threshold_it_is(bench: Path) -> None:
    added: dict[str, str | bytes] = {"sure.png": shade(SURE), "unsure.png": shade(UNSURE), "almost.png": shade(ALMOST)}
    write_tree(bench / "pictures", added | {"turned.jpg": turned(6)})
    rows = run(bench)
    confidences = {
        name: [{each["label"]: each["confidence"] for each in rows[f"{name}.png"][kind]} for kind in KINDS]
        for name in ("sure", "unsure", "almost")
    }
    plane, near = {"airplane": 0.6}, pytest.approx(0.05, abs=0.003)
    assert confidences["sure"] == [{"helicopter": pytest.approx(0.884, abs=0.003)} | plane, {}]
    assert confidences["unsure"] == [plane | {"helicopter": pytest.approx(0.3, abs=0.003)}, {}]
    assert confidences["almost"] == [plane, {"helicopter": pytest.approx(0.2, abs=0.003)}]
    assert [rows[f"{name}.png"]["margin"] for name in ("sure", "unsure", "almost")] == [None, near, near]
    box = rows["sure.png"]["detections"][0]["box"]  # 24 16 8 8 of 32 x 32, in a picture of 64 x 64
    assert [box[side] for side in ("x1", "y1", "x2", "y2")] == [40, 24, 56, 40]
    assert (rows["turned.jpg"]["width"], rows["turned.jpg"]["height"]) == (40, 30)


KINDS = ("detections", "almost")


def test_hostile_pictures_are_rows_with_their_reason_and_the_others_are_scored(bench: Path) -> None:
    bomb = shade(0)[:16] + b"\x7f\xff\xff\xff" * 2 + shade(0)[24:]
    bad: dict[str, str | bytes] = {"empty.png": b"", "bomb.png": bomb, "cut.png": shade(SURE)[:60], "text.jpg": "no"}
    odd: dict[str, str | bytes] = {"=1+1\n,\u202e.png": shade(SURE), "notes.txt": "no picture"}
    write_tree(bench / "pictures", bad | odd)
    raw = os.fsencode(bench / "pictures") + b"/\xff.png"
    Path(os.fsdecode(raw)).write_bytes(shade(SURE))
    (bench / "pictures" / "gone.png").symlink_to(bench / "model.onnx")  # leads out of the folder
    scores = predict(bench, "pictures", bench / "out.jsonl", "model.onnx")
    rows = rows_of(bench / "out.jsonl")
    assert {name for name, row in rows.items() if row["error"]} == set(bad)
    assert scores.pictures == len(rows) == 9 + len(bad) + 2 and scores.others == 1
    assert all(len(row["detections"]) == (0 if name in bad else 2) for name, row in rows.items())
    predict(bench, "pictures", bench / "out.csv", "model.onnx")
    with (bench / "out.csv").open(encoding="utf-8", newline="") as file:
        read = {row["picture"]: row for row in csv.DictReader(file)}
    assert read.keys() == rows.keys()
    assert all(json.loads(read[name]["detections"]) == row["detections"] for name, row in rows.items())


def test_parquet_has_the_same_rows(bench: Path) -> None:
    polars = pytest.importorskip("polars")
    write_tree(bench / "pictures", {"bad.png": b"", "unsure.png": shade(UNSURE)})
    rows = run(bench)
    run_again = predict(bench, "pictures", bench / "out.parquet", "model.onnx")
    assert run_again.before == 11
    read = {row["picture"]: row for row in polars.read_parquet(bench / "out.parquet").to_dicts()}
    assert read.keys() == rows.keys()
    for name, row in rows.items():
        for key in ("sha256", "width", "height", "error"):
            assert read[name][key] == row[key]
        assert read[name]["margin"] == pytest.approx(row["margin"])
        for kind in KINDS:
            found, expected = read[name][kind], row[kind]
            assert [each["label"] for each in found] == [each["label"] for each in expected]
            assert [each["box"] for each in found] == [pytest.approx(each["box"], abs=1e-3) for each in expected]


KILLED = """
import os, signal
from pathlib import Path
from runner.predict import predict as module
parts, write = [], module.write_text
def write_and_die(path, text):
    write(path, text)
    parts.append(path)
    if len(parts) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
module.write_text = write_and_die
module.predict(Path.cwd(), "pictures", Path("out.jsonl"), "model.onnx", part=2)
"""


def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_rows(bench: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=bench, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL and not (bench / "out.jsonl").exists()
    scores = predict(bench, "pictures", bench / "out.jsonl", "model.onnx", part=2)
    assert (scores.before, scores.pictures) == (4, 9)
    resumed = (bench / "out.jsonl").read_bytes()
    os.rename(bench / ".work", bench / "elsewhere")  # noqa: PTH104
    run(bench)
    assert (bench / "out.jsonl").read_bytes() == resumed


def test_only_new_and_changed_pictures_are_scored_again(bench: Path) -> None:
    first = run(bench)
    (bench / "pictures/clip 0/00.png").unlink()
    write_tree(bench / "pictures", {"clip 1/01.png": shade(ALMOST), "new.png": shade(SURE)})
    scores = predict(bench, "pictures", bench / "out.jsonl", "model.onnx")
    rows = rows_of(bench / "out.jsonl")
    assert scores.before == 7 and len(rows) == 9
    assert rows.keys() ^ first.keys() == {"clip 0/00.png", "new.png"}
    assert rows["clip 1/01.png"]["margin"] is not None and first["clip 1/01.png"]["margin"] is None
    (bench / "model.onnx").write_bytes(seeing(imgsz="[32, 32]", author="another"))
    assert predict(bench, "pictures", bench / "out.jsonl", "model.onnx").before == 0


def test_one_picture_is_scored_when_the_source_is_a_file(bench: Path) -> None:
    scores = predict(bench, "pictures/clip 3/03.png", bench / "out.jsonl", "model.onnx")
    (row,) = rows_of(bench / "out.jsonl").values()
    assert (scores.pictures, row["picture"], row["width"]) == (1, "03.png", 67)
    with pytest.raises(DatasetError, match=r"model\.onnx"):
        predict(bench, "model.onnx", None, "model.onnx")


def test_pictures_are_drawn_with_their_boxes_under_their_own_paths(bench: Path, tmp_path: Path) -> None:
    added: dict[str, str | bytes] = {"bad.png": b"", "turned.jpg": turned(6), "large.png": shade(SURE, 1000)}
    write_tree(bench / "pictures", added)
    scores = predict(bench, "pictures", None, "model.onnx")
    (bench / "pictures/clip 0/00.png").write_bytes(shade(ALMOST))  # changed since
    counted, *gone = draw_pictures(scores, tmp_path / "drawn").splitlines()
    drawn = {path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*")}
    assert drawn == {"turned.jpg", "large.png.jpg"} | {f"clip {n}/{n:02}.png.jpg" for n in range(1, 9)}
    assert counted.startswith("10 ") and "clip 0/00.png" in gone[-1]
    with Image.open(tmp_path / "drawn/turned.jpg") as turned_upright:
        assert turned_upright.size == (480, 360)  # 40 x 30 as people see it, enlarged
    with Image.open(tmp_path / "drawn/large.png.jpg") as large:
        assert large.size == (1000, 64)
        colours = {colour for _, colour in large.getcolors(1 << 16) or []}
    assert any(max(colour) - min(colour) > 100 for colour in colours if isinstance(colour, tuple))  # a grey picture


def test_no_object_is_drawn_outside_the_folder_when_its_key_leads_there(tmp_path: Path) -> None:
    for address in ("s3://bucket/../../a.png", "../../a.png", "s3://bucket//a.png"):
        assert file_of(tmp_path, address) == tmp_path / "a.png.jpg"


def test_refused_when_drawn_pictures_would_lie_among_the_others(bench: Path) -> None:
    check_folder("s3://bucket/prefix", bench / "drawn")
    for source in (bench / "pictures", bench / "pictures/clip 0/00.png"):
        check_folder(str(source), bench / "drawn")
        with pytest.raises(StageError, match="drawn"):
            check_folder(str(source), bench / "pictures/clip 0/drawn")


def test_refused_before_any_work_when_it_cannot_end_well(bench: Path) -> None:
    with pytest.raises(StageError, match=r"out\.xlsx"):
        predict(bench, "pictures", bench / "out.xlsx", "model.onnx")
    with pytest.raises(ConfigError, match="dev"):
        predict(bench, "pictures", bench / "out.csv")
    with pytest.raises(StageError, match=r"missing\.onnx"):
        predict(bench, "pictures", bench / "out.csv", "missing.onnx")
    (bench / "none").mkdir()
    for folder in ("none", "not there"):
        with pytest.raises(DatasetError, match=folder):
            predict(bench, folder, bench / "out.csv", "model.onnx")
    assert not (bench / ".work").exists() and not (bench / "out.csv").exists()
