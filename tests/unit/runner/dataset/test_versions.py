import hashlib
import os
import shutil
import zipfile
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

from runner.config.compose import compose_before_dataset
from runner.config.edit import set_params
from runner.config.schema import Composed
from runner.dataset.add import add_dataset
from runner.dataset.labels import parse_labels
from runner.errors import ConfigError, DatasetError, StoreError
from runner.store import open_store
from runner.store.folder import FolderStore
from tests.support.fetching import fetch_files, origin_of
from tests.support.pictures import settings
from tests.support.shades import shade
from tests.support.trees import read_tree, write_tree, zip_tree

PARAMS = """\
presets:
  dataset: sample  # sample | store
  train: cpu
dataset:           # what to learn
  name:
  url:             # [-] where
  sha256:
"""
PICTURES = [shade(value, 8, 8) for value in range(3)]
WORKSHOP = {
    "classes.txt": b"airplane\nhelicopter",
    "LICENSE.txt": b"CC0\n",
    "images/clip1.f01.png": PICTURES[0],
    "images/clip1.f02.png": PICTURES[1],
    "images/sky.png": PICTURES[2],
    "labels/clip1.f01.txt": b"0 0.5 0.5 0.2 0.2\r\n7 0.5 0.5 0.2 0.2\r\n",
    "labels/clip1.f02.txt": b"1 0.5 0.5 0.2 0.2 0.9\n0 0.1 0.1 0.1 0.1\n",
    "labels/gone.txt": b"",
}
CANONICAL = {
    "labels/clip1.f01.txt": b"0 0.500000 0.500000 0.200000 0.200000\n",
    "labels/clip1.f02.txt": b"0 0.100000 0.100000 0.100000 0.100000\n1 0.500000 0.500000 0.200000 0.200000\n",
}
ROBOFLOW = {
    "data.yaml": b"train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['plane']\n",
    "train/images/a.png": PICTURES[0],
    "train/labels/a.txt": b"0 0.5 0.5 0.2 0.2\n",
    "valid/images/a.png": PICTURES[1],
    "valid/labels/a.txt": b"0 0.1 0.1 0.1 0.1\n",
}
URL = "store:datasets/planes/0123456789ab.zip"  # of a zip that was placed by hand


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project's folder, in which nothing was added yet."""
    return write_tree(tmp_path / "my größe project", {"params.yaml": PARAMS})


def named(repository: Path) -> dict[str, str]:
    values: dict[str, str] = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))["dataset"]
    return values


def fetched(repository: Path, folder: Path) -> str:
    """Fetch the version that params.yaml names into `folder`/raw."""
    version = named(repository)
    return fetch_files(origin_of(version["url"], version["sha256"], repository, folder / "work"), folder / "raw")


def assert_is_workshop(raw: Path, labels: dict[str, bytes] | None = None) -> None:
    """The folder holds WORKSHOP in the form of a version."""
    found = read_tree(raw)
    assert b'"name": "helicopter"' in found.pop("notes.json")
    expected = WORKSHOP | {"classes.txt": b"airplane\nhelicopter\n"} | (labels or {})
    del expected["labels/gone.txt"]
    assert found == expected


def test_refused_when_a_picture_is_in_another_part_than_before(repository: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "planes", ROBOFLOW)
    add_dataset(tmp_path / "planes", project=repository)
    more = {"valid/images/b.png": PICTURES[2], "valid/labels/b.txt": b"0 0.1 0.1 0.1 0.1\n"}
    write_tree(tmp_path / "more", ROBOFLOW | more)
    add_dataset(tmp_path / "more", project=repository, name="planes")
    before = named(repository)
    moved = ROBOFLOW | {"train/images/a.png": PICTURES[2], "valid/images/b.png": PICTURES[0], "valid/labels/b.txt": b""}
    write_tree(tmp_path / "moved", moved)
    with pytest.raises(
        DatasetError, match=r"(?s)planes: not added.*\(2\):.*: train, was val.*: val, was train.*--name"
    ):
        add_dataset(tmp_path / "moved", project=repository, name="planes")
    assert named(repository) == before
    elsewhere = open_store(tmp_path, str(tmp_path / "elsewhere"))
    add_dataset(tmp_path / "moved", project=repository, name="planes", store=elsewhere)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("evil.zip", DatasetError, r"^evil\.zip: '\.\./evil\.txt': leads out"),
        ("blank.zip", DatasetError, r"^blank\.zip: classes\.txt:2: blank"),
        ("直升机.zip", DatasetError, r"直升机\.zip: .* '直升机', expected --name"),
        ("empty", DatasetError, "^empty: no pictures"),
        ("gone.zip", DatasetError, r"gone\.zip: there is no such file"),
        *((f"s3://{bucket}/planes", DatasetError, rf"^s3://{bucket}/planes: names no bucket") for bucket in ("", "A")),
        ("full.zip", OSError, "No space left on device"),
        ("good.zip", StoreError, "^STORE_URI gs://bucket"),
        ("no project.zip", ConfigError, r"params\.yaml"),
    ],
)
def test_nothing_changes_when_a_source_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    bad = {"evil.zip": {"../evil.txt": b""}, "blank.zip": {"classes.txt": b"a\n\nb\n"}}
    for name in ("evil.zip", "blank.zip", "直升机.zip", "full.zip", "good.zip", "no project.zip"):
        zip_tree(tmp_path / name, WORKSHOP | bad.get(name, {}))
    project = tmp_path if source == "no project.zip" else repository
    if source == "full.zip":
        monkeypatch.setattr(shutil, "copyfile", MagicMock(side_effect=OSError(28, "No space left on device")))
    if source == "good.zip":
        monkeypatch.setenv("STORE_URI", "gs://bucket")
    with pytest.raises(error, match=message):
        add_dataset(source if source.startswith("s3:") else tmp_path / source, project=project)
    assert read_tree(repository) == {"params.yaml": PARAMS.encode()}


def test_version_is_stored_and_named(repository: Path, tmp_path: Path) -> None:
    text = add_dataset(str(zip_tree(tmp_path / "Planes & Helis_v2.zip", WORKSHOP)), project=repository)
    sha256 = named(repository)["sha256"]
    url = f"store:datasets/planes-helis-v2/{sha256[:12]}.jsonl"
    assert (repository / "params.yaml").read_text(encoding="utf-8") == PARAMS.replace("sample  #", "store   #").replace(
        "  name:\n  url:             # [-] where\n  sha256:\n",
        f"  name: planes-helis-v2\n  url: {url} # [-] where\n  sha256: {sha256}\n",
    )
    version = repository / "store" / url.removeprefix("store:")
    assert hashlib.sha256(version.read_bytes()).hexdigest() == sha256
    assert list((repository / ".work").iterdir()) == []
    assert fetched(repository, tmp_path) == ""
    assert_is_workshop(tmp_path / "raw", CANONICAL)
    for part in (
        "planes-helis-v2: 3 pictures, 3 boxes\n",
        "left out (1):\n  labels/gone.txt: ",
        "label lines left out (1):\n  labels/clip1.f01.txt:2: ",
        "label lines repaired (1):\n  labels/clip1.f02.txt:1: ",
        f"stored as {url} (store: {repository / 'store'}): 4 files, ",
        " bytes sent\nparams.yaml now names this version",
    ):
        assert part in text


@pytest.mark.parametrize("files", [WORKSHOP, ROBOFLOW])
def test_same_dataset_gives_the_same_version_however_it_comes(
    repository: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    folder = write_tree(tmp_path / "folder", files)
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    sources = [
        zip_tree(tmp_path / "a.zip", files),
        zip_tree(tmp_path / "b.zip", {f"top/in ner/{name}": files[name] for name in reversed(files)}),
        zip_tree(tmp_path / "c.zip", files | {"__MACOSX/images/._a.png": b"x", "images/.DS_Store": b"x"}),
        folder,
    ]
    add_dataset(sources[0], project=repository, name="planes")
    before = read_tree(repository)
    for source in sources:
        text = add_dataset(source, project=repository, name="planes")
        assert "\nin the store already: store:datasets/planes/" in text
        assert text.endswith("params.yaml names this version already: nothing changed")
    assert read_tree(repository) == before


def test_fetched_version_has_the_parts_and_is_the_same_version_when_it_is_added_again(
    repository: Path, tmp_path: Path
) -> None:
    assert "\nparts: train 1, val 1;" in add_dataset(write_tree(tmp_path / "planes", ROBOFLOW), project=repository)
    assert fetched(repository, tmp_path) == ""
    raw = read_tree(tmp_path / "raw")
    assert raw["train.txt"] == b"images/a.png\n"
    name = raw["val.txt"].decode().strip()
    assert name != "images/a.png"
    assert raw[name] == PICTURES[1]
    assert raw[name.replace("images", "labels").replace("png", "txt")] == b"0 0.100000 0.100000 0.100000 0.100000\n"
    assert add_dataset(tmp_path / "raw", project=repository, name="planes").endswith("nothing changed")


def judged(project: Path, max_rejected: float = 0.05, **model: object) -> Composed:
    """The real configuration, with another limit and other values of `model`."""
    config, _ = compose_before_dataset(project)
    changes = {"prepare": settings(max_rejected=max_rejected), "model": config.model.model_copy(update=model)}
    return config.model_copy(update=changes), [("model.imgsz", 640, config.model.imgsz)]


def test_advice_is_given_when_values_of_the_sample_do_not_fit(project: Path, repository: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "planes", WORKSHOP)
    text = add_dataset(folder, project=repository, composed=judged(project, 0.9, imgsz=32))
    assert "model.imgsz 32, too small" in text and "the preset's 640 would make it" in text
    assert text.endswith("published as flyingthings; set it, as to planes")
    set_params(repository / "params.yaml", {("model", "name"): "birds"})
    text = add_dataset(folder, project=repository, composed=judged(project, 0.9, imgsz=640))
    assert " px at model.imgsz 640" in text and "too small" not in text and "published" not in text


def test_dataset_is_refused_with_the_lists_when_labels_find_no_picture(
    project: Path, repository: Path, tmp_path: Path
) -> None:
    files = WORKSHOP | {f"labels/gone{number:02}.txt": b"0 0.5 0.5 0.1 0.1\n" for number in range(20)}
    folder = write_tree(tmp_path / "planes", files)
    with pytest.raises(DatasetError, match=r"21 of 24 label lines .* prepare\.max_rejected = 0\.05 ") as refusal:
        add_dataset(folder, project=repository, composed=judged(project))
    kept = repository / ".work" / "dataset-add-planes.txt"
    assert "labels without a picture, left out (20):\n  labels/gone00.txt: " in str(refusal.value)
    assert str(kept) in str(refusal.value) and "labels/gone19.txt: " in kept.read_text(encoding="utf-8")
    assert (repository / "params.yaml").read_text() == PARAMS and not (repository / "store").exists()
    assert "stored as" in add_dataset(folder, project=repository, composed=judged(project, 0.9))


def test_dataset_is_refused_with_a_drawing_when_copies_of_a_picture_disagree(
    project: Path, repository: Path, tmp_path: Path
) -> None:
    files = WORKSHOP | {"images/again.png": PICTURES[0], "labels/again.txt": b"0 0.7 0.7 0.2 0.2\n"}
    composed = judged(project, 0.9)
    with pytest.raises(DatasetError, match=r"again\.png and clip1\.f01\.png") as refusal:
        add_dataset(write_tree(tmp_path / "planes", files), project=repository, composed=composed)
    sheet = repository / ".work" / "dataset-add-planes-duplicates.jpg"
    assert str(sheet) in str(refusal.value) and sheet.is_file()
    files["labels/again.txt"] = b""
    text = add_dataset(write_tree(tmp_path / "planes", files), project=repository, composed=composed)
    assert "copies that prepare will leave out (1):\n  again.png: " in text


def test_name_is_made_of_the_file_name(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"Größe 2.ZIP": "groe-2", "planes.v3i.yolov11.zip": "planes-v3i-yolov11", "--a--.zip": "a"}
    for source, name in names.items():
        add_dataset(zip_tree(tmp_path / source, WORKSHOP), project=repository)
        assert named(repository)["name"] == name
    monkeypatch.chdir(write_tree(tmp_path / "planes", WORKSHOP))
    add_dataset(".", project=repository)
    assert named(repository)["name"] == "planes"


def test_name_is_refused_when_it_is_none(repository: Path, tmp_path: Path) -> None:
    for name in ("", "My Planes", "../x", "a" * 61, "-a"):
        with pytest.raises(DatasetError, match=f"^--name {name!r}: expected at most 60"):
            add_dataset(tmp_path, project=repository, name=name)


def test_preset_of_the_user_stays(repository: Path, tmp_path: Path) -> None:
    (repository / "params.yaml").write_text(PARAMS.replace("sample ", "bccd "), encoding="utf-8")
    add_dataset(zip_tree(tmp_path / "planes.zip", WORKSHOP), project=repository)
    assert "  dataset: bccd  #" in (repository / "params.yaml").read_text(encoding="utf-8")


def test_long_lists_are_kept_whole_in_a_file(repository: Path, tmp_path: Path) -> None:
    files = WORKSHOP | {f"labels/gone{number:02}.txt": b"" for number in range(20)}
    text = add_dataset(write_tree(tmp_path / "planes", files), project=repository)
    assert "left out (21):" in text
    assert "  … and 11 more" in text
    assert "gone19" not in text
    assert "labels/gone19.txt: " in (repository / ".work" / "dataset-add-planes.txt").read_text(encoding="utf-8")


def test_hand_placed_zip_is_brought_to_the_same_layout(tmp_path: Path) -> None:
    files = {f"export/{name}": content for name, content in WORKSHOP.items()} | {"__MACOSX/export/._a": b""}
    placed, work = zip_tree(tmp_path / "placed.zip", files), tmp_path / "work"
    store = FolderStore(tmp_path / "store")
    store.put_file(URL.removeprefix("store:"), placed)
    sha256 = hashlib.sha256(placed.read_bytes()).hexdigest()
    said = fetch_files(origin_of(URL, sha256, tmp_path, work), tmp_path / "raw")
    assert said.startswith("left out (1):\n  export/labels/gone.txt: ")
    assert_is_workshop(tmp_path / "raw", {"labels/clip1.f01.txt": b"0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n"})
    assert [path.name for path in (work / "datasets").iterdir() if path.suffix != ".lock"] == []


def test_fetch_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store, bad = FolderStore(tmp_path / "store"), zip_tree(tmp_path / "bad.zip", {"a.txt": b""})
    store.put_file(URL.removeprefix("store:"), bad)
    sha256, out, work = hashlib.sha256(bad.read_bytes()).hexdigest(), tmp_path / "out" / "raw", tmp_path / "work"
    for url, digest, error, message in (
        (URL, "0" * 64, StoreError, f"its sha256 is {sha256}, but 0{{64}} was expected"),
        (URL, None, StoreError, rf"^params\.yaml: dataset\.sha256 is empty, .* {URL}"),
        ("store:datasets/planes/000000000000.zip", sha256, StoreError, r"no datasets/planes/000000000000\.zip"),
        ("samples", sha256, StoreError, "'samples' is not in the store"),
        (URL, sha256, DatasetError, rf"^{URL}: no pictures: a\.txt"),
    ):
        with pytest.raises(error, match=message):
            fetch_files(origin_of(url, digest, tmp_path, work), out)
    assert not out.exists() and not (work / "pictures").exists()
    assert [path.name for path in (work / "datasets").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("name", "pictures", "boxes"), [("planes-helis-yolo", 285, [132, 158]), ("bccd-yolo", 364, [4153, 372, 361])]
)
def test_real_datasets_are_added_and_fetched(
    repository: Path, tmp_path: Path, shared_data: Path, name: str, pictures: int, boxes: list[int]
) -> None:
    text = add_dataset(shared_data / f"{name}.zip", project=repository)
    assert text.startswith(f"{name}: {pictures} pictures, {sum(boxes):,} boxes\n")
    assert [int(line.split()[1]) for line in text.splitlines()[2 : 2 + len(boxes)]] == boxes
    assert fetched(repository, tmp_path) == ""
    with zipfile.ZipFile(shared_data / f"{name}.zip") as archive:
        original = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    raw = read_tree(tmp_path / "raw")
    labels = {file for file, content in original.items() if file.startswith("labels/")}
    assert raw.keys() == original.keys() - {file for file in labels if not original[file].strip()}
    assert all(raw[file] == content for file, content in original.items() if file not in labels | {"notes.json"})
    for file in labels & raw.keys():
        assert parse_labels(original[file], where="", classes=3).class_ids.size == raw[file].count(b"\n")
