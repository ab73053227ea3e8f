"""`labels import` on a real server: each picture once, with its boxes where it has some."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.dataset.archive import write_zip
from runner.errors import DatasetError, LabelStudioError
from runner.label_studio import intake
from runner.label_studio import labelling_tasks as tasks
from runner.label_studio.intake import import_pictures
from runner.label_studio.setup import set_up
from tests.support.annotating import Bench, labelled, picture, pictures
from tests.support.pictures import encoded, gradient


def test_each_picture_is_imported_once_whatever_it_is_called(either_bench: Bench, tmp_path: Path) -> None:
    set_up(either_bench.project)
    folder = pictures(tmp_path / "new" / "2026", 3)
    (tmp_path / "new" / "copy of 1.jpg").write_bytes((folder / "0001.jpg").read_bytes())
    assert import_pictures(str(tmp_path / "new"), project=either_bench.project) == (
        "4 pictures: 3 new tasks, 1 there already"
    )
    pictures(folder, 1, first=3)
    assert import_pictures(str(tmp_path / "new"), project=either_bench.project) == (
        "5 pictures: 1 new tasks, 4 there already"
    )
    data = [task["data"] for task in either_bench.tasks()]
    assert len({each["sha256"] for each in data}) == len(data) == 4
    assert all(each["origin"] == "import" and len(each["dhash"]) == 16 for each in data)


def test_a_dataset_brings_its_boxes_when_it_is_a_zip(bench: Bench, tmp_path: Path) -> None:
    source = labelled(tmp_path / "first", {"a.jpg": "1 0.5 0.5 0.25 0.25\n", "b.jpg": "", "c.jpg": None})
    files = [(str(file.relative_to(source)), file) for file in source.rglob("*") if file.is_file()]
    write_zip(files, tmp_path / "first.zip")
    set_up(bench.project)
    said = import_pictures(str(tmp_path / "first.zip"), project=bench.project)
    assert said == "3 pictures: 3 new tasks (3 with the dataset's boxes)"
    results = {task["data"]["name"]: task["annotations"][0]["result"] for task in bench.tasks()}
    assert [len(results[name]) for name in ("a.jpg", "b.jpg", "c.jpg")] == [1, 0, 0]
    assert results["a.jpg"][0]["value"]["rectanglelabels"] == ["helicopter"]


def test_pictures_come_from_a_prefix_when_they_lie_in_a_bucket(bucket_bench: Bench, tmp_path: Path) -> None:
    set_up(bucket_bench.project)
    client = bucket_bench.store.bucket.client  # type: ignore[attr-defined]
    name = bucket_bench.store.uri.removeprefix("s3://")
    client.fput_object(name, "from a camera/a b ü.jpg", str(picture(tmp_path / "a.jpg", 1)))
    client.fput_object(name, "from another/c.jpg", str(picture(tmp_path / "c.jpg", 2)))
    said = import_pictures(f"s3://{name}/from a camera/", project=bucket_bench.project)
    assert said == "1 pictures: 1 new tasks"
    (task,) = bucket_bench.tasks()
    assert task["data"]["name"] == "a b ü.jpg"
    assert task["data"]["image"] == f"s3://{name}/datasets/{bucket_bench.title.replace(' ', '-')}/pictures/" + (
        f"{task['data']['sha256']}.jpg"
    )


def test_what_browsers_do_not_show_is_left_out_when_imported(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    folder = pictures(tmp_path / "new", 1)
    (folder / "a.tiff").write_bytes(encoded(gradient(), "TIFF"))
    (folder / "b.jpg").write_bytes(b"no picture")
    said = import_pictures(str(folder), project=bench.project)
    assert said.startswith("3 pictures: 1 new tasks\nleft out (2):\n  a.tiff: a TIFF, which browsers do not show")
    assert "b.jpg: not a picture of a known kind" in said


def test_pictures_that_look_alike_are_reported_when_imported(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    folder = pictures(tmp_path / "new", 2)
    import_pictures(str(folder), project=bench.project)
    data = (folder / "0001.jpg").read_bytes()
    from PIL import Image

    Image.open(folder / "0001.jpg").save(folder / "again.jpg", quality=60)
    assert (folder / "again.jpg").read_bytes() != data
    said = import_pictures(str(folder), project=bench.project)
    assert said.startswith("3 pictures: 1 new tasks, 2 there already\nlook alike")
    assert said.endswith("(1):\n  again.jpg and 0001.jpg")


def test_the_model_draws_first_when_asked_to(
    bench: Bench, tmp_path: Path, bright_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny model finds a helicopter everywhere, and an airplane where the picture is bright."""
    set_up(bench.project)
    with pytest.raises(LabelStudioError, match=r"--predict: dev has no model yet; leave --predict away until one"):
        import_pictures(str(tmp_path), project=bench.project, predict=True)
    monkeypatch.setenv("MODEL_URI", str(bright_model))
    source = labelled(tmp_path / "first", {"a.jpg": "1 0.5 0.5 0.25 0.25\n"})
    import_pictures(str(source), project=bench.project, predict=True)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project, predict=True)
    assert bench.task("a.jpg")["predictions"] == []
    (prediction,) = bench.task("0000.jpg")["predictions"]
    found = {region["value"]["rectanglelabels"][0]: region for region in prediction["result"]}
    assert found["helicopter"]["score"] == pytest.approx(0.6, abs=1e-3)
    assert prediction["model_version"].startswith("bright ")
    assert prediction["score"] == min(region["score"] for region in prediction["result"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", r"nowhere: there is no such file or folder"),
        (".", r"no pictures, expected files such as .jpg"),
    ],
)
def test_the_source_is_named_when_it_has_no_pictures(
    bench: Bench, source: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_up(bench.project)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(DatasetError, match=message):
        import_pictures(source, project=bench.project)


def test_the_classes_are_named_when_the_project_lacks_them(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    source = labelled(tmp_path / "first", {"a.jpg": "1 0.5 0.5 0.25 0.25\n"}, ("airplane", "glider"))
    with pytest.raises(LabelStudioError, match=r"the dataset has boxes of glider, but test .* has labels for airplane"):
        import_pictures(str(source), project=bench.project)
    assert bench.tasks() == []


def test_what_is_made_stays_when_the_next_batch_is_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(bench.project)
    folder = pictures(tmp_path / "new", 5)
    monkeypatch.setattr(intake, "BATCH", 2)
    made = tasks.create_tasks
    batches: list[int] = []

    def make(its: object, new: list[object]) -> None:
        batches.append(len(new))
        if len(batches) == 2:
            raise LabelStudioError("the disk is full")
        made(its, new)  # type: ignore[arg-type]

    monkeypatch.setattr(intake, "create_tasks", make)
    with pytest.raises(LabelStudioError, match="the disk is full"):
        import_pictures(str(folder), project=bench.project)
    assert import_pictures(str(folder), project=bench.project) == "5 pictures: 3 new tasks, 2 there already"
    assert batches == [2, 2, 2, 1]
