"""What `store gc` removes, and that an upload beside it loses nothing: on a folder, MinIO and SeaweedFS."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.dataset.index import Index, PictureRow
from runner.dataset.versions import store_version
from runner.errors import StoreError
from runner.store import Store, gc
from runner.store.folder import FolderStore
from runner.store.gc import collect_garbage
from runner.store.init import init_store
from runner.store.s3 import S3Store
from runner.store.verify import verify_store

LATER = datetime.now(UTC) + timedelta(days=31)  # by then all that a test stores is old


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def lock(*md5s: str) -> str:
    return "".join(f"  outs:\n  - path: x\n    md5: {each}\n" for each in md5s)


def entry(*md5s: str) -> str:
    """Return an entry of the run cache, whose input is in no cache."""
    return json.dumps({"deps": [{"md5": md5("code")}], "outs": [{"md5": each} for each in md5s]})


def file_key(md5: str) -> str:
    return f"dvc/files/md5/{md5[:2]}/{md5[2:]}"


INDEX = f'{{"about":{{"LICENSE":["{sha256("c")}",9]}}}}\n["{sha256("a")}","a"]\n'
FOLDER = f"{md5('folder')}.dir"
ENTRY = f"dvc/runs/ab/{sha256('inputs')}"
NAMED = {
    file_key(md5("of main")): "",
    file_key(md5("of a branch")): "",
    file_key(md5("of a tag")): "",
    file_key(md5("not committed")): "",
    file_key(FOLDER): json.dumps([{"md5": md5("in a folder"), "relpath": "a"}]),
    file_key(md5("in a folder")): "",
    file_key(md5("of a run at work")): "",
    "pipeline/retrain-1/dvc.lock": lock(md5("of a run at work")),
    file_key(md5("published")): "",
    "runs/planes/1/dvc.lock": lock(md5("published")),
    "runs/planes/1/best.pt": "best",
    "models/planes/1/model.onnx": "onnx",
    "models/planes/1/manifest.json": "{}",
    "runs/planes/2/claim.json": "{}",
    f"{ENTRY}/{sha256('named')}": entry(md5("of main"), FOLDER),
    f"datasets/birds/{sha256('index')[:12]}.jsonl": INDEX,
    f"datasets/birds/pictures/{sha256('a')}": "a",
    f"datasets/birds/pictures/{sha256('c')}": "a licence",
    f"datasets/birds/pictures/{sha256('b')}.jpg": "of a task",
    f"captures/dev/planes/{sha256('b')}.jpg": "a capture",
}
NO_ENTRIES = ("just text", "- 1", "outs: [1]", "outs: 1", "[" * 3000, "a: !!python/none x", "\0")  # of a hostile commit
UNNAMED = {
    **{f"{ENTRY}/{sha256(text)}": text for text in NO_ENTRIES},
    file_key(md5("nobody's")): "",
    f"{ENTRY}/{sha256('unnamed')}": entry(md5("of main"), md5("nobody's")),
    "runs/planes/2/best.pt": "half",
    "models/planes/2/model.onnx": "half",
    f"datasets/birds/pictures/{sha256('b')}": "b",
    f"datasets/cats/pictures/{sha256('a')}": "of another dataset",
}


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of one branch, whose remote has another one and a tag."""
    origin = tmp_path / "origin"
    for name in ("main", "branch", "tag"):
        if name == "main":
            origin.mkdir()
            git(origin, "init", "--quiet", "--initial-branch=main")
        (origin / "dvc.lock").write_text(lock({"main": md5("of main"), "branch": md5("of a branch")}.get(name, "")))
        (origin / "own.dvc").write_text(lock({"main": FOLDER, "tag": md5("of a tag")}.get(name, "")))
        git(origin, "add", ".")
        git(origin, "commit", "--quiet", "--message", name)
        if name == "main":
            git(tmp_path, "clone", "--quiet", "--single-branch", str(origin), "clone")
            git(origin, "checkout", "--quiet", "-b", "branch")
    git(origin, "tag", "v1")
    git(origin, "reset", "--quiet", "--hard", "HEAD^")
    (tmp_path / "clone/dvc.lock").write_text(lock(md5("not committed")))
    return tmp_path / "clone"


@pytest.fixture(params=["folder", "minio", "seaweedfs"])
def store(request: pytest.FixtureRequest, store_of: Callable[[str], Store], tmp_path: Path) -> FolderStore | S3Store:
    store = store_of(request.param)
    init_store(tmp_path)
    for key, content in (NAMED | UNNAMED).items():
        store.replace(key, content.encode())
    assert isinstance(store, FolderStore | S3Store)
    return store


def keys(store: Store) -> set[str]:
    return {key for key in store.list("") if key != "store.json"}


def test_what_nothing_names_is_removed_once_it_is_old(store: FolderStore | S3Store, clone: Path) -> None:
    assert "0 removed" in collect_garbage(clone, store, remove=True)  # nothing is old
    text = collect_garbage(clone, store, now=LATER)
    assert "nothing was removed" in text and keys(store) == NAMED.keys() | UNNAMED.keys()
    listed = (clone / ".work/store-gc.txt").read_text().splitlines()
    assert {line.partition("\t")[0] for line in listed} == UNNAMED.keys()
    assert f"{len(UNNAMED)} removed, 0 kept" in collect_garbage(clone, store, now=LATER, remove=True)
    assert keys(store) == NAMED.keys()
    if isinstance(store, S3Store):
        assert versions(store) == NAMED.keys() | UNNAMED.keys()  # an administrator could still bring them back
        gone = collect_garbage(clone, store, now=LATER, remove=True)
        assert f"{len(UNNAMED)} deleted" in gone and versions(store) == NAMED.keys()
    else:
        assert f"{len(UNNAMED)} deleted" in collect_garbage(clone, store, remove=True)


def versions(store: S3Store) -> set[str]:
    bucket = store.bucket
    found = bucket.client.list_objects(bucket.name, recursive=True, include_version=True)
    return {str(item.object_name) for item in found} - {"store.json"}


def picture(number: int) -> tuple[str, bytes]:
    content = f"picture {number}".encode()
    return hashlib.sha256(content).hexdigest(), content


def add(store: Store, work: Path, *numbers: int) -> None:
    """Add a version with these pictures."""
    work.mkdir(exist_ok=True)
    files, rows = {}, []
    for digest, content in map(picture, numbers):
        (work / digest).write_bytes(content)
        files[digest] = work / digest
        rows.append(PictureRow(digest, f"{digest[:9]}.jpg", len(content), 8, 8, None, ""))
    store_version(store, "planes", Index(["plane"], {}, rows), files, {"made_by": "x", "previous": None}, work=work)


def test_a_picture_is_kept_when_a_version_names_it_meanwhile(
    store: FolderStore | S3Store, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, content = picture(0)
    hide = gc.hide

    def hide_late(*arguments: Any) -> None:
        add(store, tmp_path / "work", 0)  # it finds the picture in the store, and sends none
        hide(*arguments)

    store.replace(f"datasets/planes/pictures/{digest}", content)
    monkeypatch.setattr(gc, "hide", hide_late)
    assert f"{len(UNNAMED)} removed, 1 kept" in collect_garbage(clone, store, now=LATER, remove=True)
    assert store.read(f"datasets/planes/pictures/{digest}") == content
    collect_garbage(clone, store, now=LATER, remove=True)
    assert store.read(f"datasets/planes/pictures/{digest}") == content


def test_versions_are_whole_when_they_are_added_beside_it(
    store: FolderStore | S3Store, clone: Path, tmp_path: Path
) -> None:
    for key in [*NAMED, *UNNAMED]:
        if key.startswith(("runs/", "models/")) and isinstance(store, FolderStore):
            (store.folder / key).unlink()
    for number in range(40):
        digest, content = picture(number)
        store.replace(f"datasets/planes/pictures/{digest}", content)

    def add_some(first: int) -> None:
        for last in range(first + 1, first + 11):
            add(store, tmp_path / f"work-{first}", *range(first, last))

    with ThreadPoolExecutor(5) as pool:
        adding = [pool.submit(add_some, first) for first in range(0, 40, 10)]
        collecting = pool.submit(lambda: [collect_garbage(clone, store, now=LATER, remove=True) for _ in range(3)])
        for each in adding:
            each.result()
        collecting.result()
    wrong = [line for line in verify_store(store)[0].splitlines() if "datasets/planes" in line]
    assert wrong == []
    assert len(store.list("datasets/planes/pictures/")) == 40


def test_refused_when_not_all_names_are_known_or_nothing_could_come_back(
    store_of: Callable[[str], Store], clone: Path, tmp_path: Path
) -> None:
    store = store_of("rclone")
    assert isinstance(store, S3Store)
    assert "nothing was removed" in collect_garbage(clone, store)
    with pytest.raises(StoreError, match="keeps no earlier versions"):
        collect_garbage(clone, store, remove=True)
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tmp_path}/origin", "shallow")
    with pytest.raises(StoreError, match="shallow"):
        collect_garbage(tmp_path / "shallow", store)
    with pytest.raises(StoreError, match="not a git repository"):
        collect_garbage(tmp_path, store)
    with pytest.raises(StoreError, match="--days 0"):
        collect_garbage(clone, store, days=0)
