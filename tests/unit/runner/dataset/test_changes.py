"""A version costs what it changes; boxes of turned pictures; zips of before; export and diff."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from PIL import Image

from runner.__main__ import main
from runner.dataset.add import add_dataset, migrate_dataset
from runner.dataset.archive import write_zip
from runner.dataset.diff import diff_versions
from runner.dataset.export_zip import export_dataset
from runner.dataset.index import Index, parse_index
from runner.dataset.sheet import CELL_PX
from runner.dataset.versions import find_version, record_key
from runner.errors import DatasetError, ObjectError, StoreError
from runner.stages.fetch import fetch
from runner.store import key_of_url, open_store
from runner.store.folder import FolderStore
from runner.store.verify import verify_store
from runner.workspace import sha256_of
from tests.conftest import PROJECT
from tests.support.fetching import fetch_files, origin_of
from tests.support.pictures import encoded
from tests.support.projects import set_params
from tests.support.shades import shade
from tests.support.trees import read_tree, write_tree

SEEN, STORED = "0 0.250000 0.300000 0.100000 0.200000\n", "0 0.300000 0.750000 0.200000 0.100000\n"  # EXIF 6


def dataset(count: int, **changes: bytes) -> dict[str, bytes]:
    """Files of a dataset in the workshop's layout: name of a picture → its label file, for some."""
    files = {"classes.txt": b"plane\nship\n", "LICENSE": b"CC0\n"}
    for number in range(count):
        files[f"images/p{number}.png"] = shade(number, 8, 8)
        files[f"labels/p{number}.txt"] = b"0 0.5 0.5 0.2 0.2\n"
    return files | {f"labels/{name}.txt": text for name, text in changes.items()}


def phone() -> bytes:
    """A picture 40 wide and 60 high as a person sees it, with a red square at (0.25, 0.3); stored on its side."""
    seen = Image.new("RGB", (40, 60), "white")
    seen.paste("red", (8, 12, 12, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(seen.transpose(Image.Transpose.ROTATE_90), quality=95, subsampling=0, exif=exif)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the real conf/ and params.yaml."""
    for name in ("STORE_URI", "RUNNER_WORK"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(PROJECT / "conf", tmp_path / "project" / "conf")
    shutil.copy(PROJECT / "params.yaml", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def named(project: Path) -> dict[str, str]:
    values: dict[str, str] = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))["dataset"]
    return values


def index(project: Path) -> Index:
    key = key_of_url(named(project)["url"])
    return parse_index(open_store(project).read(key), key)


def record(project: Path) -> dict[str, Any]:
    key = record_key(key_of_url(named(project)["url"]))
    found: dict[str, Any] = json.loads(open_store(project).read(key))
    return found


def add(project: Path, files: dict[str, bytes], folder: Path, **options: Any) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    return add_dataset(write_tree(folder, files), project=project, name="planes", **options)


def fetched(project: Path, raw: Path) -> dict[str, bytes]:
    version = named(project)
    fetch_files(origin_of(version["url"], version["sha256"], project, project / ".work"), raw)
    return read_tree(raw)


def put_zip(project: Path, files: dict[str, bytes], folder: Path) -> str:
    """Put a version of before into the store, and name it in params.yaml; return its digest."""
    write_zip(files.items(), folder / "before.zip")
    sha256 = sha256_of(folder / "before.zip")
    key = f"datasets/planes/{sha256[:12]}.zip"
    open_store(project).put_file(key, folder / "before.zip", sha256)
    values = {"name": "planes", "url": f"store:{key}", "sha256": sha256}
    set_params(project, {"presets": {"dataset": "store"}, "dataset": values})
    return sha256


def test_only_new_pictures_are_sent_and_fetched_when_a_dataset_grows(project: Path, tmp_path: Path) -> None:
    assert ": 21 files, " in add(project, dataset(20), tmp_path / "a")
    first, store = named(project)["sha256"], project / "store" / "datasets" / "planes"
    before = {path: path.stat().st_ino for path in (store / "pictures").iterdir()}
    fetched(project, tmp_path / "raw")
    assert ": 1 files, " in add(project, dataset(21, p3=b"1 0.5 0.5 0.2 0.2\n"), tmp_path / "a")
    assert {path: path.stat().st_ino for path in before} == before
    assert len(list((store / "pictures").iterdir())) == len(before) + 1
    assert record(project)["previous"] == first and record(project)["made_by"] == "dataset add"
    for path in before:
        path.unlink()  # .work/ has them
    raw = fetched(project, tmp_path / "raw2")
    assert len([name for name in raw if name.startswith("images/")]) == 21
    assert raw["labels/p3.txt"] == b"1 0.500000 0.500000 0.200000 0.200000\n" and raw["LICENSE"] == b"CC0\n"


def test_pictures_of_label_studio_serve_too(project: Path, tmp_path: Path) -> None:
    """Its tasks have them under their digest with a suffix."""
    files = dataset(2)
    (tmp_path / "p0.png").write_bytes(files["images/p0.png"])
    sha256 = sha256_of(tmp_path / "p0.png")
    open_store(project).put_file(f"datasets/planes/pictures/{sha256}.png", tmp_path / "p0.png")
    assert ": 2 files, " in add(project, files, tmp_path / "a")
    assert fetched(project, tmp_path / "raw")["images/p0.png"] == files["images/p0.png"]
    assert verify_store(open_store(project))[1]


def test_no_version_is_there_when_an_add_ends_early(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file, puts = FolderStore.put_file, []

    def put(self: FolderStore, key: str, path: Path, sha256: str | None = None) -> bool:
        puts.append(key)
        if len(puts) == 12:
            raise StoreError("the store is full")
        return put_file(self, key, path, sha256)

    monkeypatch.setattr(FolderStore, "put_file", put)
    before = (project / "params.yaml").read_text()
    with pytest.raises(StoreError, match="the store is full"):
        add(project, dataset(20), tmp_path / "a")
    keys = open_store(project).list("datasets/")
    assert keys and all("/pictures/" in key for key in keys)
    assert (project / "params.yaml").read_text() == before
    assert f": {21 - len(keys)} files, " in add(project, dataset(20), tmp_path / "a")


def test_missing_pictures_are_named_by_fetch_and_verify(project: Path, tmp_path: Path) -> None:
    add(project, dataset(3), tmp_path / "a")
    assert verify_store(open_store(project))[1]
    gone = next(path for path in (project / "store/datasets/planes/pictures").iterdir() if path.stat().st_size > 10)
    gone.unlink()
    with pytest.raises(ObjectError, match=f"1 pictures of the version are missing, the first is .*{gone.name}"):
        fetched(project, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    text, is_well = verify_store(open_store(project))
    assert not is_well and f"1 of its pictures are missing, the first is datasets/planes/pictures/{gone.name}" in text
    gone.write_bytes(b"damaged")
    with pytest.raises(ObjectError, match=rf"{gone.name}: its sha256 is"):
        fetched(project, tmp_path / "raw")


CVAT = b"names: {0: plane}\npath: .\ntrain: train.txt\n"
LAYOUTS = {
    "Label Studio": {"classes.txt": b"plane\n", "images/a.jpg": b"", "labels/a.txt": b""},
    "CVAT": {
        **{"data.yaml": CVAT, "train.txt": b"data/images/train/a.jpg\n"},
        **{"images/train/a.jpg": b"", "labels/train/a.txt": b""},
    },
    "Ultralytics": {
        **{"data.yaml": b"names: [plane]\ntrain: train/images\n"},
        **{"train/images/a.jpg": b"", "train/labels/a.txt": b""},
    },
}


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("frame", ["seen", "stored"])
def test_boxes_are_on_their_object_when_exif_turns_the_picture(
    project: Path, tmp_path: Path, source: str, frame: Literal["seen", "stored"]
) -> None:
    """Not arithmetic but pixels: the red square is in the box of the picture as viewers show it."""
    contents = {".jpg": phone(), "a.txt": (SEEN if frame == "seen" else STORED).encode()}
    files = {
        name: next((content for end, content in contents.items() if name.endswith(end)), text)
        for name, text in LAYOUTS[source].items()
    }
    text = add(project, files, tmp_path / "a", **({} if frame == "seen" else {"frame": frame}))
    assert "pictures with boxes that EXIF turns: 1; their boxes are read as of the " in text
    assert ("--exif-boxes stored reads them" in text) == (frame == "seen")
    (row,) = index(project).rows
    assert (row.width, row.height, row.labels) == (40, 60, SEEN)
    assert record(project)["exif_boxes"] == frame
    raw = fetched(project, tmp_path / "raw")
    x, y, w, h = (float(number) for number in raw["labels/a.txt"].split()[1:])
    from serving.vision.picture import decode

    pixels = np.asarray(decode(raw["images/a.jpg"]).image, dtype=int)
    box = pixels[round((y - h / 2) * 60) : round((y + h / 2) * 60), round((x - w / 2) * 40) : round((x + w / 2) * 40)]
    assert box[..., 0].mean() > 200 and box[..., 1:].mean() < 60


@pytest.mark.parametrize("frame", ["seen", "stored"])
def test_zip_is_refused_until_its_frame_is_named_when_exif_turns_pictures(
    project: Path, tmp_path: Path, frame: Literal["seen", "stored"]
) -> None:
    labels = SEEN if frame == "seen" else STORED
    before = put_zip(
        project, {"classes.txt": b"plane\n", "images/a.jpg": phone(), "labels/a.txt": labels.encode()}, tmp_path
    )
    for attempt in (lambda: fetched(project, tmp_path / "raw"), lambda: migrate_dataset(project, None)):
        with pytest.raises(DatasetError, match=r"EXIF turns 1 of its pictures.*migrate --exif-boxes"):
            attempt()
    assert not (tmp_path / "raw").exists()
    set_params(project, {"prepare": {"max_rejected": 0.05}})
    assert main(["dataset", "migrate", "--exif-boxes", frame]) == 0
    assert index(project).rows[0].labels == SEEN
    assert record(project)["previous"] == before and record(project)["made_by"] == "dataset migrate"
    assert fetched(project, tmp_path / "raw")["labels/a.txt"].decode() == SEEN
    assert migrate_dataset(project, None).endswith("nothing to do")


def test_zip_of_before_is_fetched_and_gives_the_same_files_when_migrated(project: Path, tmp_path: Path) -> None:
    files = dataset(4, p1=b"", p2=b"1 0.5 0.5 0.2 0.2\n0 0.25 0.25 0.1 0.1\n") | {"train.txt": b"images/p0.png\n"}
    put_zip(project, files, tmp_path)
    old = fetched(project, tmp_path / "old")
    assert old["labels/p2.txt"] == files["labels/p2.txt"]
    assert "planes: 4 pictures, 4 boxes" in migrate_dataset(project, None)
    new = fetched(project, tmp_path / "new")
    assert {name: old[name] for name in old if not name.startswith("labels/")} == {
        name: new[name] for name in new if not name.startswith("labels/")
    }
    assert new["labels/p2.txt"].decode().splitlines() == [
        *("0 0.250000 0.250000 0.100000 0.100000", "1 0.500000 0.500000 0.200000 0.200000")
    ]
    assert "labels/p1.txt" not in new


@pytest.mark.parametrize("layout", ["workshop", "ultralytics"])
def test_export_is_the_same_version_when_it_is_added_again(
    project: Path, tmp_path: Path, layout: Literal["workshop", "ultralytics"]
) -> None:
    files = dataset(4, p1=b"", p2=b"1 0.9 0.5 0.2 0.2\n")
    for number, part in enumerate(("train", "train", "val", "test")):
        files[f"{part}.txt"] = files.get(f"{part}.txt", b"") + f"images/p{number}.png\n".encode()
    add(project, files, tmp_path / "a")
    before = named(project)
    assert main(["dataset", "export", str(tmp_path / "planes.zip"), "--layout", layout]) == 0
    text = add_dataset(tmp_path / "planes.zip", project=project)
    assert "in the store already" in text and text.endswith("nothing changed")
    assert named(project) == before


def test_the_sample_is_exported_when_it_is_drawn(project: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the sample is not drawn here; run `dvc repro"):
        export_dataset(project, tmp_path / "out.zip", "workshop")
    (project / "artifacts/raw").mkdir(parents=True)
    fetch(origin_of("sample", None, project, project / ".work"), project / "artifacts/raw")
    assert "out.zip: 20 pictures" in export_dataset(project, tmp_path / "out.zip", "workshop")
    assert "stored as" in add_dataset(tmp_path / "out.zip", project=project, name="drawn")


def test_export_is_refused_when_there_is_no_index(project: Path, tmp_path: Path) -> None:
    put_zip(project, dataset(2), tmp_path)
    with pytest.raises(DatasetError, match=r"dataset\.url is store:.*\.zip, .*migrate"):
        export_dataset(project, tmp_path / "out.zip", "workshop")


def test_export_is_refused_when_its_place_is_a_folder(project: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"^{tmp_path}: is a folder"):
        export_dataset(project, tmp_path, "workshop")


def test_diff_counts_and_names_what_changed(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(project, dataset(4), tmp_path / "a")
    first = named(project)["sha256"][:12]
    files = dataset(6, p1=b"1 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.1 0.1\n", p2=b"")
    add(project, {name: content for name, content in files.items() if "p3" not in name}, tmp_path / "a")
    second = named(project)["url"]
    capsys.readouterr()
    assert main(["dataset", "diff", first, second]) == 0
    assert (
        capsys.readouterr().out
        == """\
                  before  after  change
  pictures        4       5      +1
  without a box   0       1      +1
  boxes of plane  4       4
  boxes of ship   0       1      +1
added (2):
  p4.png
  p5.png
relabelled (2):
  p1.png
  p2.png
removed (1):
  p3.png
"""
    )
    assert "added" not in diff_versions(project, first, first)
    assert main(["dataset", "diff", first, second, "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "drawn in " in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        cells = np.asarray(sheet.convert("L"), dtype=int).reshape(2, CELL_PX, 6, CELL_PX).swapaxes(1, 2)
    assert [(cell < 250).any() for row in cells for cell in row] == [True] * 7 + [False] * 5
    diff_versions(project, first, second, tmp_path / "new folder/sheet.JPEG")
    with Image.open(tmp_path / "new folder/sheet.JPEG") as sheet:
        assert sheet.format == "JPEG"
    with pytest.raises(DatasetError, match=r"sheet\.txt: .*\.png"):
        diff_versions(project, first, second, tmp_path / "sheet.txt")
    with pytest.raises(StoreError, match=r"0000 is no version, expected store:datasets/planes/<sha12>"):
        find_version(open_store(project), "planes", "0000")
