"""Pictures that the stages see: hashed when used, and brought back, wherever the dataset comes from."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runner.dataset.add import add_dataset
from runner.dataset.entries import Entry, read_entries
from runner.dataset.picture_cache import cache_folder
from runner.errors import DatasetError, ObjectError
from runner.stages.fetch import SAMPLE, Origin, bring_pictures, fetch, read_raw
from runner.stages.picture_files import SHARED, PictureFiles
from runner.stages.prepare.prepare import prepare
from runner.store import open_store
from tests.support.fetching import origin_of
from tests.support.pictures import BOX, encoded, gradient, settings, turned
from tests.support.trees import write_tree, zip_tree

RULES = settings(max_width=60)
PICTURES = {
    "plain.jpg": encoded(gradient()),
    "turned.jpg": turned(6),
    "wide.png": encoded(gradient(90, 30), "PNG"),
    "grey.jpg": encoded(gradient().convert("L")),
}
FILES = {"classes.txt": b"airplane\n"} | {
    path: content
    for name, data in PICTURES.items()
    for path, content in ((f"images/{name}", data), (f"labels/{name[:-4]}.txt", BOX.encode()))
    if path != "labels/turned.txt"  # of a zip, boxes on it would be refused
}
PARAMS = "presets:\n  dataset: sample\ndataset:\n  name:\n  url:\n  sha256:\n"


class Prepared(NamedTuple):
    """A dataset after `prepare`."""

    files: PictureFiles
    entries: list[Entry]
    project: Path

    @property
    def cache(self) -> Path:
        return cache_folder(self.files.origin.work)


def of_version(project: Path) -> tuple[str, str]:
    add_dataset(write_tree(project.parent / "planes", FILES), project=project)
    (version,) = (project / "store/datasets/planes").glob("*.jsonl")
    return f"store:datasets/planes/{version.name}", hashlib.sha256(version.read_bytes()).hexdigest()


def of_zip(project: Path) -> tuple[str, str]:
    packed = zip_tree(project.parent / "placed.zip", FILES)
    sha256 = hashlib.sha256(packed.read_bytes()).hexdigest()
    open_store(project).put_file(f"datasets/planes/{sha256[:12]}.zip", packed)
    return f"store:datasets/planes/{sha256[:12]}.zip", sha256


def of_sample(_: Path) -> tuple[str, None]:
    return SAMPLE, None


def prepared_of(origin: Origin, folder: Path) -> list[Entry]:
    for name in ("raw", "dataset", "report"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)

    def bring(sizes: Any) -> Path:
        return bring_pictures(sizes, origin)

    fetch(origin, folder / "raw")
    rules = settings(max_width=60, min_per_class=0)
    index = read_raw(folder / "raw")
    prepare(index, [], rules, folder / "dataset", folder / "report", work=origin.work, bring=bring)
    assert not [path for path in folder.rglob("*") if path.suffix in (".png", ".jpg") and path.name != "pictures.jpg"]
    return read_entries(folder / "dataset")


@pytest.fixture(params=[of_version, of_zip, of_sample])
def prepared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.delenv("STORE_URI", raising=False)
    project = write_tree(tmp_path / "my größe project", {"params.yaml": PARAMS})
    make: Callable[[Path], tuple[str, str | None]] = request.param
    origin = origin_of(*make(project), project, project / ".work")
    return Prepared(PictureFiles(origin, RULES), prepared_of(origin, project / "artifacts"), project)


def digests(files: list[Path]) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def damage(cache: Path, how: str) -> None:
    for file in list(cache.iterdir()):
        if how == "gone":
            file.unlink()
        else:  # of the same size, as a power cut may leave it
            file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("how", ["gone", "zeroed"])
def test_pictures_are_there_again_when_the_cache_lost_them(prepared: Prepared, how: str) -> None:
    files, entries = prepared.files, prepared.entries
    expected = [(entry["encoded"] or [entry["sha256"]])[0] for entry in entries]
    assert sum(entry["encoded"] is not None for entry in entries) >= 3
    assert digests(files.prepared(entries)) == expected
    damage(prepared.cache, how)
    assert digests(files.sources(entries)) == [entry["sha256"] for entry in entries]
    damage(prepared.cache, how)
    assert digests(files.prepared(entries)) == expected
    assert sorted(path.name for path in prepared.files.origin.work.iterdir() if path.name != "datasets") == [
        "pictures",
        "prepare",
    ]


def test_only_what_is_wanted_is_brought_back(prepared: Prepared) -> None:
    shutil.rmtree(prepared.cache)
    (file,) = prepared.files.sources(prepared.entries[1:2])
    assert [path.name for path in prepared.cache.iterdir()] == [file.name]


def test_refused_with_the_way_out_when_the_dataset_has_a_picture_no_more(prepared: Prepared) -> None:
    unknown = prepared.entries[0] | {"sha256": "0" * 64}
    error = ObjectError if prepared.files.origin.url.endswith(".jsonl") else DatasetError
    with pytest.raises(error, match=rf"1 pictures .*{'0' * 64}.*(add the dataset again|dvc repro --force)"):
        prepared.files.sources([unknown])


def test_pictures_that_a_task_shared_are_taken_when_a_later_one_lacks_them(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, entries = prepared.files, prepared.entries
    text = files.share(entries)
    own = 0 if files.origin.url.endswith(".jsonl") else len(entries)
    shared = len(open_store(prepared.project).list(SHARED))
    assert text.startswith(f"{shared} pictures shared") and shared == own + sum(
        bool(each["encoded"]) for each in entries
    )
    assert files.share(entries).startswith("0 pictures")
    shutil.rmtree(files.origin.work)
    for name in ("runner.sample.draw_sample", "runner.dataset.versions.read_zip"):
        monkeypatch.setattr(name, None)
    monkeypatch.setattr("runner.stages.prepare.pictures.decode", None)
    expected = [(entry["encoded"] or [entry["sha256"]])[0] for entry in entries]
    assert digests(files.prepared(entries)) == expected
    assert digests(files.sources(entries) if own else []) == [entry["sha256"] for entry in entries][: own or 0]


def test_what_another_encoder_made_is_used_and_said(prepared: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [dict(entry) for entry in prepared.entries]
    odd = next(entry for entry in entries if entry["encoded"])
    right = odd["encoded"]
    odd["encoded"] = ["f" * 64, 1]
    place = entries.index(odd)
    assert digests(prepared.files.prepared(entries))[place] == right[0]
    assert capsys.readouterr().out.startswith("1 pictures were encoded to other bytes")


def test_pictures_that_nothing_used_for_weeks_are_removed(prepared: Prepared) -> None:
    entries, cache = prepared.entries, prepared.cache
    (cache / "left by a killed process").touch()
    for file in cache.iterdir():
        os.utime(file, (time.time() - 15 * 86400,) * 2)
    used = {file.name for file in prepared.files.prepared(entries[:2])}
    used |= {entry["sha256"] for entry in entries[:2] if not entry["encoded"]}
    assert {path.name for path in cache.iterdir()} == used
