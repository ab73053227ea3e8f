"""`dataset add` and the stage `fetch`: versions in the store."""

import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image

from runner.dataset.archive import unpack
from runner.dataset.classes import format_notes
from runner.dataset.layouts import DatasetPicture, Layout
from runner.dataset.versions import add_dataset, fetch_dataset, version_files
from runner.errors import ConfigError, DatasetError, StoreError
from runner.store import open_store
from runner.store.folder import FolderStore

PARAMS = """\
presets:
  dataset: sample  # sample | store
  train: cpu
dataset:           # what to learn
  name:
  url:             # [-] where
  sha256:
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORE_URI", raising=False)
    monkeypatch.delenv("RUNNER_WORK", raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project's folder, in which nothing was added yet."""
    folder = tmp_path / "my größe project"
    folder.mkdir()
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    return folder


def picture(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def workshop() -> dict[str, bytes]:
    return {
        "classes.txt": b"airplane\nhelicopter",
        "LICENSE.txt": b"CC0\n",
        "images/clip1_f01.png": picture(1),
        "images/clip1_f02.png": picture(2),
        "images/sky.png": picture(3),
        "labels/clip1_f01.txt": b"0 0.5 0.5 0.2 0.2\r\n7 0.5 0.5 0.2 0.2\r\n",
        "labels/clip1_f02.txt": b"1 0.5 0.5 0.2 0.2 0.9\n0 0.1 0.1 0.1 0.1\n",
        "labels/gone.txt": b"",
    }


def roboflow() -> dict[str, bytes]:
    return {
        "data.yaml": b"train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['plane']\n",
        "train/images/a.png": picture(1),
        "train/labels/a.txt": b"0 0.5 0.5 0.2 0.2\n",
        "valid/images/a.png": picture(2),
        "valid/labels/a.txt": b"0 0.1 0.1 0.1 0.1\n",
    }


def as_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def named(repository: Path) -> dict[str, str]:
    values: dict[str, str] = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))["dataset"]
    return values


def assert_refused(source: Path | str, repository: Path, message: str, error: type[Exception] = DatasetError) -> None:
    """The source is refused with this message; store and params.yaml stay, and no scratch is left."""
    with pytest.raises(error, match=message):
        add_dataset(source, project=repository)
    assert contents(repository) == {"params.yaml": PARAMS.encode()}


def fetched(repository: Path, folder: Path) -> str:
    """Fetch the version that params.yaml names into `folder`/raw."""
    version, store = named(repository), open_store(repository)
    return fetch_dataset(version["url"], version["sha256"], store, folder / "raw", work=folder / "work")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict.fromkeys(workshop()), "holds no files"),
        ({"../evil.txt": b""}, r"'\.\./evil\.txt': leads out"),
        ({"classes.txt": b"a\n\nb\n"}, r"classes\.txt:2: blank"),
        ({"notes.json": b'{"categories": [{"id": 0, "name": "x"}]}'}, r"notes\.json: .* 0 x"),
        ({name: None for name in workshop() if name.startswith("labels/")}, "no labels: .* 3 pictures"),
        ({"classes.txt": None}, "no class list"),
    ],
)
def test_zip_is_refused_and_nothing_changes(
    repository: Path, tmp_path: Path, change: dict[str, bytes | None], message: str
) -> None:
    files = {name: content for name, content in (workshop() | change).items() if content is not None}
    assert_refused(as_zip(tmp_path / "planes.zip", files), repository, rf"^planes\.zip: {message}")


def test_source_is_refused_when_it_is_no_dataset(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "planes").mkdir()
    assert_refused(tmp_path / "planes", repository, "^planes: no pictures")
    assert_refused(tmp_path / "gone.zip", repository, r"gone\.zip: there is no such file")
    assert_refused("s3:///planes", repository, "^s3:///planes: names no bucket")


def test_source_is_refused_when_its_store_or_params_cannot_take_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = as_zip(tmp_path / "planes.zip", workshop())
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        add_dataset(source, project=tmp_path)
    monkeypatch.setenv("STORE_URI", "gs://bucket")
    assert_refused(source, repository, "^STORE_URI gs://bucket", StoreError)


def test_version_is_stored_and_named(repository: Path, tmp_path: Path) -> None:
    text = add_dataset(str(as_zip(tmp_path / "Planes & Helis_v2.zip", workshop())), project=repository)
    sha256 = named(repository)["sha256"]
    url = f"store:datasets/planes-helis-v2/{sha256[:12]}.zip"
    assert (
        (repository / "params.yaml").read_text(encoding="utf-8")
        == f"""\
presets:
  dataset: store   # sample | store
  train: cpu
dataset:           # what to learn
  name: planes-helis-v2
  url: {url} # [-] where
  sha256: {sha256}
"""
    )
    version = repository / "store" / "datasets" / "planes-helis-v2" / f"{sha256[:12]}.zip"
    assert hashlib.sha256(version.read_bytes()).hexdigest() == sha256
    unpack(version, tmp_path / "out")
    expected = workshop() | {"classes.txt": b"airplane\nhelicopter\n"}
    del expected["labels/gone.txt"]
    found = contents(tmp_path / "out")
    assert b'"name": "helicopter"' in found.pop("notes.json")
    assert found == expected
    assert sorted(path.name for path in (repository / ".work").iterdir()) == []
    assert (
        text
        == f"""\
planes-helis-v2: 3 pictures, 3 boxes
  class         boxes  pictures
  airplane      2      2
  helicopter    1      1
  (background)  0      1
pictures without a label file: 1
left out (1):
  labels/gone.txt: a label file without a picture; expected one of this name in images/
prepare will leave out (1):
  labels/clip1_f01.txt:2: class id 7, but the dataset lists 2 classes (0-1)
prepare will repair (1):
  labels/clip1_f02.txt:1: sixth column 0.9 ignored (a confidence?), expected 5: class x y w h
stored as {url} (store: {repository / "store"})
params.yaml now names this version; `dvc repro` trains on it"""
    )


@pytest.mark.parametrize("files", [workshop(), roboflow()])
def test_same_dataset_gives_the_same_version_however_it_comes(
    repository: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    folder = as_folder(tmp_path / "folder", files)
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    sources = [
        as_zip(tmp_path / "a.zip", files),
        as_zip(tmp_path / "b.zip", {f"top/in ner/{name}": files[name] for name in reversed(files)}),
        as_zip(tmp_path / "c.zip", files | {"__MACOSX/images/._a.png": b"x", "images/.DS_Store": b"x"}),
        folder,
    ]
    add_dataset(sources[0], project=repository, name="planes")
    before = contents(repository)
    for source in sources:
        text = add_dataset(source, project=repository, name="planes")
        assert "\nin the store already: store:datasets/planes/" in text
        assert text.endswith("params.yaml names this version already: nothing changed")
    assert contents(repository) == before


def test_parts_of_the_source_are_kept(repository: Path, tmp_path: Path) -> None:
    assert "\nparts: train 1, val 1;" in add_dataset(as_folder(tmp_path / "planes", roboflow()), project=repository)
    fetched(repository, tmp_path)
    raw = contents(tmp_path / "raw")
    assert raw["train.txt"] == b"images/a.png\n"
    name = raw["val.txt"].decode().strip()
    assert name != "images/a.png"
    assert raw[name] == picture(2)
    assert raw[name.replace("images", "labels").replace("png", "txt")] == b"0 0.1 0.1 0.1 0.1\n"


@pytest.mark.parametrize("files", [workshop(), roboflow()])
def test_fetched_version_is_the_same_version_when_it_is_added_again(
    repository: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    add_dataset(as_folder(tmp_path / "planes", files), project=repository)
    version = named(repository)
    assert fetched(repository, tmp_path) == ""
    assert add_dataset(tmp_path / "raw", project=repository, name="planes").endswith("nothing changed")
    assert named(repository) == version


def test_name_is_made_of_the_file_name(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"Größe 2.ZIP": "groe-2", "planes.v3i.yolov11.zip": "planes-v3i-yolov11", "--a--.zip": "a"}
    for source, name in names.items():
        add_dataset(as_zip(tmp_path / source, workshop()), project=repository)
        assert named(repository)["name"] == name
    monkeypatch.chdir(as_folder(tmp_path / "planes", workshop()))
    add_dataset(".", project=repository)
    assert named(repository)["name"] == "planes"


def test_name_is_refused_when_it_is_none(repository: Path, tmp_path: Path) -> None:
    source = as_zip(tmp_path / "直升机.zip", workshop())
    assert_refused(source, repository, r"直升机\.zip: .* '直升机', expected --name")
    for name in ("", "My Planes", "../x", "a" * 61, "-a"):
        with pytest.raises(DatasetError, match=f"^--name {name!r}: expected at most 60"):
            add_dataset(source, project=repository, name=name)


def test_preset_of_the_user_stays(repository: Path, tmp_path: Path) -> None:
    (repository / "params.yaml").write_text(PARAMS.replace("sample ", "bccd "), encoding="utf-8")
    add_dataset(as_zip(tmp_path / "planes.zip", workshop()), project=repository)
    assert "  dataset: bccd  #" in (repository / "params.yaml").read_text(encoding="utf-8")


def test_long_lists_are_kept_whole_in_a_file(repository: Path, tmp_path: Path) -> None:
    files = workshop() | {f"labels/gone{number:02}.txt": b"" for number in range(20)}
    text = add_dataset(as_folder(tmp_path / "planes", files), project=repository)
    assert "left out (21):" in text
    assert "  … and 11 more" in text
    assert "gone19" not in text
    assert "labels/gone19.txt: " in (repository / ".work" / "dataset-add-planes.txt").read_text(encoding="utf-8")


def test_add_changes_nothing_when_it_dies_while_storing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source = as_zip(tmp_path / "planes.zip", workshop())
    monkeypatch.setattr(shutil, "copyfile", full)
    assert_refused(source, repository, "No space left on device", OSError)


def test_hand_placed_zip_is_brought_to_the_same_layout(tmp_path: Path) -> None:
    files = {f"export/{name}": content for name, content in workshop().items()} | {"__MACOSX/export/._a": b""}
    placed = as_zip(tmp_path / "placed.zip", files)
    store, url, work = FolderStore(tmp_path / "store"), "store:datasets/planes/0123456789ab.zip", tmp_path / "work"
    store.put_file(url.removeprefix("store:"), placed)
    (tmp_path / "raw").mkdir()
    sha256 = hashlib.sha256(placed.read_bytes()).hexdigest()
    said = fetch_dataset(url, sha256, store, tmp_path / "raw", work=work)
    assert said.startswith("left out (1):\n  export/labels/gone.txt: ")
    expected = workshop() | {"classes.txt": b"airplane\nhelicopter\n"}
    del expected["labels/gone.txt"]
    found = contents(tmp_path / "raw")
    assert b"categories" in found.pop("notes.json")
    assert found == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["placed.zip", "raw", "store", "work"]
    assert [path.name for path in (work / "datasets").iterdir() if path.suffix != ".lock"] == []


def test_fetch_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store, url = FolderStore(tmp_path / "store"), "store:datasets/planes/0123456789ab.zip"
    bad = as_zip(tmp_path / "bad.zip", {"a.txt": b""})
    store.put_file(url.removeprefix("store:"), bad)
    sha256, out, work = hashlib.sha256(bad.read_bytes()).hexdigest(), tmp_path / "out" / "raw", tmp_path / "work"
    for given, digest, error, message in (
        (url, "0" * 64, StoreError, f"its sha256 is {sha256}, but 0{{64}} was expected"),
        (url, None, StoreError, rf"^params\.yaml: dataset\.sha256 is empty, .* {url}"),
        ("store:datasets/planes/000000000000.zip", sha256, StoreError, r"no datasets/planes/000000000000\.zip"),
        ("sample", sha256, StoreError, "'sample' is not in the store"),
        (url, sha256, DatasetError, rf"^{url}: no pictures: a\.txt"),
    ):
        with pytest.raises(error, match=message):
            fetch_dataset(given, digest, store, out, work=work)
    assert list(out.parent.iterdir()) == []
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
    raw = contents(tmp_path / "raw")
    assert raw.keys() == original.keys()
    assert all(raw[file] == content for file, content in original.items() if file != "notes.json")


def test_version_has_the_files_of_the_layout_and_nothing_else(tmp_path: Path) -> None:
    pictures = [
        DatasetPicture("a.v2.jpg", tmp_path / "1.jpg", tmp_path / "1.txt", "train"),
        DatasetPicture("b.png", tmp_path / "2.png", None, "test"),
        DatasetPicture("c.jpg", tmp_path / "3.jpg", None, None),
    ]
    layout = Layout(["light aircraft", "größe"], pictures, {"LICENSE": tmp_path / "LICENSE"}, ["x: y"], ["z"])
    assert dict(version_files(layout)) == {
        "classes.txt": "light aircraft\ngröße\n".encode(),
        "notes.json": format_notes(layout.classes),
        "LICENSE": tmp_path / "LICENSE",
        "images/a.v2.jpg": tmp_path / "1.jpg",
        "labels/a.v2.txt": tmp_path / "1.txt",
        "images/b.png": tmp_path / "2.png",
        "images/c.jpg": tmp_path / "3.jpg",
        "train.txt": b"images/a.v2.jpg\n",
        "test.txt": b"images/b.png\n",
    }
