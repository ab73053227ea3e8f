import json
from pathlib import Path

import pytest
from PIL import Image

from runner.dataset.archive import write_zip
from runner.errors import ConfigError, DatasetError, LabelStudioError
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.labelling_tasks import PROPOSAL
from runner.label_studio.setup import set_up
from runner.release.pin import DEV, Pin, pin_file, write_pin
from runner.workspace import sha256_of
from tests.support.annotating import Bench, labelled, picture, pictures
from tests.support.pictures import encoded, gradient


def test_each_picture_is_imported_once_whatever_it_is_called(either_bench: Bench, tmp_path: Path) -> None:
    set_up(either_bench.project)
    folder, source = pictures(tmp_path / "new" / "2026", 3), str(tmp_path / "new")
    (tmp_path / "new" / "copy of 1.jpg").write_bytes((folder / "0001.jpg").read_bytes())
    assert import_pictures(source, project=either_bench.project).startswith("4 pictures: 3 new tasks, 1 ")
    pictures(folder, 1, first=3)
    assert import_pictures(source, project=either_bench.project).startswith("5 pictures: 1 new tasks, 4 ")
    data = [task["data"] for task in either_bench.tasks()]
    assert len({each["sha256"] for each in data}) == len(data) == 4
    assert all(each["origin"] == "import" and len(each["dhash"]) == 16 for each in data)


def test_a_dataset_brings_its_boxes_when_it_is_a_zip(bench: Bench, tmp_path: Path) -> None:
    source = labelled(tmp_path / "first", {"a.jpg": "1 0.5 0.5 0.25 0.25\n", "b.jpg": "", "c.jpg": None})
    files = [(str(file.relative_to(source)), file) for file in source.rglob("*") if file.is_file()]
    write_zip(files, tmp_path / "first.zip")
    set_up(bench.project)
    text = import_pictures(str(tmp_path / "first.zip"), project=bench.project)
    assert text == "3 pictures: 3 new tasks (3 with the dataset's boxes)"
    results = {task["data"]["name"]: task["annotations"][0]["result"] for task in bench.tasks()}
    assert [len(results[name]) for name in ("a.jpg", "b.jpg", "c.jpg")] == [1, 0, 0]
    assert results["a.jpg"][0]["value"]["rectanglelabels"] == ["helicopter"]


def test_pictures_come_from_a_prefix_when_they_lie_in_a_bucket(bucket_bench: Bench, tmp_path: Path) -> None:
    set_up(bucket_bench.project)
    client = bucket_bench.store.bucket.client  # type: ignore[attr-defined]
    name = bucket_bench.store.uri.removeprefix("s3://")
    client.fput_object(name, "from a camera/a b ü.jpg", str(picture(tmp_path / "a.jpg", 1)))
    client.fput_object(name, "from another/c.jpg", str(picture(tmp_path / "c.jpg", 2)))
    import_pictures(f"s3://{name}/from a camera/", project=bucket_bench.project)
    (task,) = bucket_bench.tasks()
    assert task["data"]["name"] == "a b ü.jpg"
    folder = f"datasets/{bucket_bench.title.replace(' ', '-')}/pictures"
    assert task["data"]["image"] == f"s3://{name}/{folder}/{task['data']['sha256']}.jpg"


def test_unusable_and_similar_pictures_are_listed_when_imported(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    folder = pictures(tmp_path / "new", 2)
    import_pictures(str(folder), project=bench.project)
    Image.open(folder / "0001.jpg").save(folder / "again.jpg", quality=60)
    assert (folder / "again.jpg").read_bytes() != (folder / "0001.jpg").read_bytes()
    (folder / "a.tiff").write_bytes(encoded(gradient(), "TIFF"))
    (folder / "b.jpg").write_bytes(b"no picture")
    head, title, *left_out, _, similar = import_pictures(str(folder), project=bench.project).splitlines()
    assert head.startswith("5 pictures: 1 new tasks, 2 ") and "(2)" in title
    assert [line.split(":")[0].strip() for line in left_out] == ["a.tiff", "b.jpg"]
    assert similar.strip() == "again.jpg and 0001.jpg"


def test_the_pinned_model_draws_first_when_asked_to(bench: Bench, tmp_path: Path, bright_model: Path) -> None:
    """The tiny model finds a helicopter everywhere, and an airplane where the picture is bright."""
    set_up(bench.project)
    with pytest.raises(ConfigError, match="dev has no model yet"):
        import_pictures(str(tmp_path), project=bench.project, predict=True)
    (tmp_path / "model.onnx").write_bytes(bright_model.read_bytes())
    weights = {"onnx_sha256": sha256_of(bright_model), "classes": ["airplane", "helicopter"]}
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "bright", "version": 3, **weights}))
    (bench.project / pin_file(DEV)).parent.mkdir(parents=True)
    manifest = tmp_path / "manifest.json"
    write_pin(bench.project, DEV, Pin(str(manifest), sha256_of(manifest), "3", "", ""))
    source = labelled(tmp_path / "first", {"a.jpg": "1 0.5 0.5 0.25 0.25\n"})
    import_pictures(str(source), project=bench.project, predict=True)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project, predict=True)
    assert bench.task("a.jpg")["predictions"] == []
    (prediction,) = bench.task("0000.jpg")["predictions"]
    found = {region["value"]["rectanglelabels"][0]: region for region in prediction["result"]}
    assert found["helicopter"]["score"] == pytest.approx(0.6, abs=1e-3)
    assert prediction["model_version"] == PROPOSAL
    assert prediction["score"] == min(region["score"] for region in prediction["result"])


def test_the_source_is_named_when_it_has_no_pictures(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("nowhere", str(tmp_path / "empty")):
        with pytest.raises(DatasetError, match=f"^{source}: "):
            import_pictures(source, project=bench.project)


def test_the_classes_are_named_when_the_project_lacks_them(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    source = labelled(tmp_path / "first", {"a.jpg": "1 0.5 0.5 0.25 0.25\n"}, ("airplane", "glider"))
    with pytest.raises(LabelStudioError, match=r"boxes of glider, .* has labels for airplane, helicopter"):
        import_pictures(str(source), project=bench.project)
    assert bench.tasks() == []
