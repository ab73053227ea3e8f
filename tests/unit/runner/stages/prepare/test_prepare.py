from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from runner.errors import DatasetError
from runner.workspace import sha256_of
from serving.vision.similarity import look_of
from tests.support.pictures import BOX, RawDataset, encoded, gradient, turned


def test_pictures_and_labels_are_listed_when_all_is_well(data: RawDataset) -> None:
    data.put("größe 1.jpg", "1 0.25 0.5 0.5 1\n0 0.5 0.5 0.1 0.1\n")
    data.put("b.JPEG", None)
    assert data.prepare().startswith("2 of 2 pictures, 2 boxes; 0 things left out, 0 repaired")
    assert [entry["image"] for entry in data.index] == ["images/b.jpg", "images/größe 1.jpg"]
    source = data.raw / "images/größe 1.jpg"
    assert data.index[1] == {
        **{"image": "images/größe 1.jpg", "source": "images/größe 1.jpg"},
        **{"sha256": sha256_of(source), "bytes": source.stat().st_size, "encoded": None},
        **{"width": 20, "height": 30, "part": None, "look": look_of(Image.open(source))},
        "labels": "1 0.250000 0.500000 0.500000 1.000000\n0 0.500000 0.500000 0.100000 0.100000\n",
    }
    assert sorted(path.name for path in (data.out / "dataset").iterdir()) == ["classes.txt", "index.jsonl"]
    assert data.labels("b") == ""
    assert (data.out / "dataset/classes.txt").read_text() == "airplane\nhelicopter\n"
    assert data.report == {
        "pictures": {"found": 2, "kept": 2, "background": 1, "duplicates": 0, "unusable": 0},
        "labels": {"found": 2, "unusable": 0},
        "boxes": {"airplane": 1, "helicopter": 1},
        "left_out": [],
        "notes": [],
        "refused": [],
    }


def test_pictures_are_left_out_with_the_reason_when_they_are_useless(data: RawDataset) -> None:
    data.put("a.jpg", data=b"")
    data.put("b.jpg", data=encoded(gradient(3, 3)))
    data.put("c.jpg")
    data.prepare(max_rejected=0.75)
    assert [entry["image"] for entry in data.index] == ["images/c.jpg"]
    assert data.report["pictures"] == {"found": 3, "kept": 1, "background": 0, "duplicates": 0, "unusable": 2}
    assert data.left_out["images/a.jpg"].startswith("empty file")
    assert data.left_out["images/b.jpg"].startswith("3x3 pixels")


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_boxes_stay_when_exif_turns_the_picture(data: RawDataset, orientation: int) -> None:
    """Boxes of `raw` are of the picture as viewers show it, and the prepared picture is upright."""
    data.put("a.jpg", "0 0.1 0.2 0.2 0.4\n", turned(orientation))
    data.prepare()
    assert data.labels("a") == "0 0.100000 0.200000 0.200000 0.400000\n"
    assert (data.index[0]["width"], data.index[0]["height"]) == (40, 30)


def test_lines_are_left_out_with_file_and_line_when_they_are_wrong(data: RawDataset) -> None:
    data.put("a.jpg", b"\xef\xbb\xbf0 0.5 0.5 0.5 0.5\r\n7 0.5 0.5 0.5 0.5\r\nx\r\n")
    data.put("b.jpg", "0 0.1 0.1 0.9 0.1 0.5 0.9\n")
    data.prepare(max_rejected=0.5)
    assert data.labels("a") == "0 0.500000 0.500000 0.500000 0.500000\n"
    assert data.left_out["labels/a.txt:2"].startswith("class id 7,")
    assert "labels/a.txt:3" in data.left_out
    assert data.report["labels"] == {"found": 4, "unusable": 2}
    assert [note.partition(": ")[0] for note in data.report["notes"]] == ["labels/b.txt:1"]


def test_picture_leaves_when_its_only_label_line_is_left_out(data: RawDataset) -> None:
    data.put("a.jpg", "0 0.5 0.5 0.5\n")
    data.put("b.jpg", "0 0.5 0.5 0.5\n" + BOX)
    data.put("c.jpg", "")
    data.prepare(max_rejected=0.9)
    assert [entry["source"] for entry in data.index] == ["images/b.jpg", "images/c.jpg"]
    assert "labels/a.txt:1: 4 columns" in data.left_out["images/a.jpg"]
    assert data.report["pictures"] == {"found": 3, "kept": 2, "background": 1, "duplicates": 0, "unusable": 1}


def test_one_of_equal_pictures_is_kept_when_their_labels_are_equal(data: RawDataset) -> None:
    picture = encoded(gradient())
    data.put("b.jpg", "0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1\n", picture)
    data.put("a.jpg", "1 0.20 0.2 0.1 0.1\r\n0 0.5 0.5 0.5 0.5", picture)
    data.prepare()
    assert [entry["source"] for entry in data.index] == ["images/a.jpg"]
    assert "images/a.jpg" in data.left_out["images/b.jpg"]
    assert data.report["pictures"] == {"found": 2, "kept": 1, "background": 0, "duplicates": 1, "unusable": 0}


def test_the_one_that_is_measured_is_kept_when_equal_pictures_have_parts(data: RawDataset) -> None:
    for name in ("a", "b", "c"):
        data.put(f"{name}.jpg", data=encoded(gradient()))
    for part, name in (("train", "a"), ("val", "c"), ("test", "b")):
        (data.raw / f"{part}.txt").write_text(f"images/{name}.jpg\n")
    data.prepare()
    assert [(entry["source"], entry["part"]) for entry in data.index] == [("images/b.jpg", "test")]


def test_a_picture_of_test_stays_there_when_its_copy_in_train_has_the_boxes(data: RawDataset) -> None:
    data.put("a.jpg", "0 0.5 0.5 0.5 0.5\n", encoded(gradient()))
    data.put("b.jpg", "", encoded(gradient()))
    (data.raw / "train.txt").write_text("images/a.jpg\n")
    (data.raw / "test.txt").write_text("images/b.jpg\n")
    data.prepare()
    assert [(entry["source"], entry["part"]) for entry in data.index] == [("images/a.jpg", "test")]


def test_refused_with_a_drawing_when_equal_pictures_have_different_labels(data: RawDataset) -> None:
    for number in range(14):
        data.put(f"{number:02}.jpg", f"0 0.5 0.5 0.5 0.{number + 11}\n", encoded(gradient()))
    with pytest.raises(DatasetError, match="different labels") as refusal:
        data.prepare()
    lines = str(refusal.value).splitlines()
    assert lines[1] == "  images/00.jpg and images/01.jpg"
    assert lines[-2] == "  and 3 more"
    assert str(data.work / "duplicates.jpg") in lines[-1] and "prepare.duplicates: labelled" in lines[-1]
    with Image.open(data.work / "duplicates.jpg") as sheet:
        assert sheet.height == 5 * sheet.width  # ten pairs, two in a row
    data.prepare(duplicates="labelled")
    assert [entry["source"] for entry in data.index] == ["images/00.jpg"]


def test_copy_without_boxes_leaves_when_another_has_some(data: RawDataset) -> None:
    data.put("a.jpg", "", encoded(gradient()))
    data.put("b.jpg", "0 0.5 0.5 0.5 0.5\n", encoded(gradient()))
    data.put("c.jpg", "0 0.5 0.5004 0.5 0.5\n", encoded(gradient()))
    data.prepare()
    assert [entry["source"] for entry in data.index] == ["images/b.jpg"]
    assert data.left_out.keys() == {"images/a.jpg", "images/c.jpg"}


def test_ids_follow_the_names_when_the_configuration_lists_the_classes(data: RawDataset) -> None:
    data.put("a.jpg", "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    data.prepare(["直升机", "helicopter", "a.b c", "airplane"])
    assert [line[0] for line in data.labels("a").splitlines()] == ["3", "1"]
    assert (data.out / "dataset/classes.txt").read_text(encoding="utf-8") == "直升机\nhelicopter\na.b c\nairplane\n"
    assert data.report["boxes"] == {"直升机": 0, "helicopter": 1, "a.b c": 0, "airplane": 1}


def test_equal_boxes_of_classes_that_become_one_are_kept_once(data: RawDataset) -> None:
    data.classes("car", "truck", "person")
    data.put("a.jpg", "".join(f"{number} 0.5 0.5 0.5 0.5\n" for number in range(3)) + "1 0.5 0.5 0.1 0.1\n")
    data.prepare({"car": "vehicle", "truck": "vehicle"})
    assert [line.split()[0] for line in data.labels("a").splitlines()] == ["0", "1", "0"]
    assert [note.partition(":")[0] for note in data.report["notes"]] == ["labels/a.txt"]


def test_classes_are_refused_when_none_is_left(data: RawDataset) -> None:
    data.classes("car", "truck")
    data.put("a.jpg")
    with pytest.raises(DatasetError, match=r"dataset\.classes leaves out every class"):
        data.prepare(dict.fromkeys(("car", "truck")))


def test_classes_are_renamed_merged_and_left_out_when_the_configuration_maps_them(data: RawDataset) -> None:
    data.classes("person", "car", "bicycle", "truck")
    data.put("a.jpg", "".join(f"{number} 0.5 0.5 0.{number + 1} 0.5\n" for number in range(4)))
    data.put("b.jpg", "0 0.5 0.5 0.5 0.5\n")
    data.prepare({"truck": "vehicle", "car": "vehicle", "person": None})
    assert (data.out / "dataset/classes.txt").read_text() == "vehicle\nbicycle\n"
    assert data.labels("a") == "".join(
        f"{number} 0.500000 0.500000 0.{width}00000 0.500000\n" for number, width in ((0, 2), (1, 3), (0, 4))
    )
    assert data.labels("b") == ""
    assert data.report["notes"] == ["dataset.classes leaves out 2 boxes of person"]
    with pytest.raises(DatasetError, match=r"dataset\.classes maps lorry, which classes\.txt \(person, car"):
        data.prepare({"lorry": "vehicle"})


def test_refused_when_a_class_is_not_configured(data: RawDataset) -> None:
    data.put("a.jpg")
    with pytest.raises(DatasetError, match=r"classes\.txt lists helicopter, .* dataset\.classes \(airplane\)"):
        data.prepare(["airplane"])


@pytest.mark.parametrize("kind", ["threads", "processes", "dask"])
def test_bytes_are_equal_when_the_input_is_whoever_works(
    data: RawDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for number in range(8):
        data.put(f"ü {number}.png", f"{number % 2} 0.5 0.5 0.{number + 1} 0.5\n", encoded(gradient(30 + number), "GIF"))
    data.put("bad.jpg", data=b"")
    data.prepare(max_rejected=0.5)
    first = data.contents()
    data.prepare(max_rejected=0.5)
    assert data.contents() == first
    again = RawDataset(tmp_path / "elsewhere")
    for path in reversed(sorted(data.raw.rglob("*"))):
        if path.is_file():
            (again.raw / path.relative_to(data.raw)).write_bytes(path.read_bytes())
    monkeypatch.setenv("RUNNER_WORKERS", "2")
    monkeypatch.setenv("RUNNER_PARALLEL", kind)
    monkeypatch.chdir(again.folder)
    again.raw = Path("raw")  # relative, as in the pipeline
    with ExitStack() as stack:
        if kind == "dask":
            options = {"n_workers": 1, "dashboard_address": None, "worker_dashboard_address": None}
            cluster = stack.enter_context(pytest.importorskip("distributed").LocalCluster(**options))
            monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        again.prepare(max_rejected=0.5)
    assert again.contents() == first
    assert not any(str(tmp_path).encode() in content for content in first.values())
