"""Dataset versions in the store: an index that params.yaml names by its digest, and pictures by theirs.

datasets/<name>/pictures/<sha256>      pictures and other files, byte for byte, each once for all versions
datasets/<name>/<sha256[:12]>.jsonl    the index of a version (`runner.dataset.index`), written last
datasets/<name>/<sha256[:12]>.json     its record: time, maker, and the version before

Label Studio's tasks have pictures there too, <sha256>.<suffix>, which a version uses. A zip in the place of the index,
of an earlier version of this code or uploaded by hand, stays readable. Exported, a version has one layout:

classes.txt  notes.json                the class names in id order, as lines and as Label Studio's categories
images/<name>  labels/<stem>.txt       pictures, and label files of those that have boxes
train.txt  val.txt  test.txt           one `images/<name>` per line, where the dataset has parts
LICENSE… SOURCE… README…               unchanged
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from runner.config.edit import Key, get_param, set_params
from runner.config.schema import PARTS
from runner.dataset.archive import unpack
from runner.dataset.check import Check, Frame, check_dataset, listed, make_row, read_facts
from runner.dataset.classes import format_notes
from runner.dataset.index import Index, PictureRow, checked_key, format_index, read_index
from runner.dataset.labels import decode_lines
from runner.dataset.layouts import Layout, label_content, read_layout
from runner.dataset.names import shown
from runner.dataset.picture_cache import lacks, stored_pictures
from runner.errors import DatasetError, StoreError
from runner.store import SCHEME, Store, key_of_url
from runner.store.transfer import transfer
from runner.workspace import PARAMS, sha256_of

File = tuple[str, Path | bytes]  # name with `/`, and the content or the file that has it


def record_key(key: str) -> str:
    """Return the key of the record of a version; zips that a person added have none."""
    return re.sub(r"\.(jsonl|zip)$", ".json", key)


def store_version(
    store: Store, name: str, index: Index, files: Mapping[str, Path], record: Mapping[str, Any], *, work: Path
) -> tuple[str, str, str]:
    """Store the pictures that the store lacks, then the index; return its URL, its sha256 and a line to print.

    `files` has the file of each new picture by its digest. A killed call leaves no version. `record` has `made_by`,
    `previous` (sha256 of the version before, or None) and more; an existing one stays. ObjectError: a picture is
    neither in the store nor in `files`.
    """
    content = format_index(index)
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work) as folder:
        version = Path(folder, "index")
        version.write_bytes(content)
        sha256 = sha256_of(version)
        key = f"datasets/{name}/{sha256[:12]}.jsonl"

        def find_lacking() -> dict[str, int]:
            stored = stored_pictures(store, name)
            lacking = {digest: size for digest, size in index.sizes.items() if digest not in stored}
            if gone := [digest for digest in lacking if digest not in files]:
                raise lacks(store, name, gone)
            return lacking

        def put(digest: str) -> None:
            if sha256_of(files[digest]) != digest:
                raise DatasetError(f"{files[digest]}: changed while it was added; add the dataset again")
            store.put_file(f"datasets/{name}/pictures/{digest}", files[digest], digest)

        transfer(put, lacking := find_lacking(), f"{SCHEME}datasets/{name}")
        made = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **record}
        if made["previous"] == sha256:  # the version that params.yaml names, now in another store
            made["previous"] = None
        store.create(record_key(key), json.dumps(made, indent=1, ensure_ascii=False).encode())
        is_new = store.put_file(key, version, sha256)
        # `store gc` removes no picture that an index names; it may have removed some while none did.
        if lost := find_lacking():
            transfer(put, lost, f"{SCHEME}datasets/{name}")
    url = f"{SCHEME}{key}"
    if not is_new:
        return url, sha256, f"in the store already: {url} (store: {store.uri})"
    sent = f"{len(lacking):,} files, {sum(lacking.values()) + len(content):,} bytes sent"
    return url, sha256, f"stored as {url} (store: {store.uri}): {sent}"


def open_version(
    url: str, sha256: str | None, store: Store, folder: Path, *, work: Path
) -> tuple[Index, dict[str, Path]]:
    """Return the index of a version, and the files of its pictures by digest; without files where the store has them.

    A zip is unpacked into `folder`, which is new; DatasetError where the frame of its boxes matters, and is unknown.
    """
    key = checked_key(url, sha256)
    if not key.endswith(".zip"):
        return read_index(url, sha256, store, work=work), {}
    layout, check = unpack_zip(key, str(sha256), store, folder, work=work, frame=None)
    return index_of(layout, check.rows, check.files)


def find_version(store: Store, name: str, text: str) -> tuple[str, str]:
    """Return URL and sha256 of a version: its store: URL, or the 12 digits in it for a version of dataset `name`.

    StoreError: there is none.
    """
    wanted = key_of_url(text) if text.startswith(SCHEME) else f"datasets/{name}/{text}."
    keys = [key for key in store.list(wanted) if key.endswith((".jsonl", ".zip"))]
    if len(keys) != 1:
        raise StoreError(
            f"{store.uri}: {text} is no version, expected store:datasets/{name}/<sha12>.jsonl or its 12 digits"
        )
    return f"{SCHEME}{keys[0]}", store.digest(keys[0])


def index_of(layout: Layout, rows: list[PictureRow], files: Mapping[str, Path]) -> tuple[Index, dict[str, Path]]:
    """Return the index of a dataset on disk, and the files of its objects by digest; `files` has the pictures'."""
    about = {name: (sha256_of(path), path.stat().st_size) for name, path in layout.about.items()}
    papers = {about[name][0]: path for name, path in layout.about.items()}
    return Index(layout.classes, about, rows), {**files, **papers}


def read_zip(
    url: str, sha256: str | None, store: Store, folder: Path, *, work: Path
) -> tuple[Index, dict[str, Path], str]:
    """Unpack a version that is a zip into `folder`, which is new; return its index, files and findings, to print.

    The label lines are as they are in the zip: what is wrong with them counts in the gate of `prepare`.
    """
    layout, _ = unpack_zip(checked_key(url, sha256), str(sha256), store, folder, work=work, frame=None)
    index, files = index_of(layout, [], {})
    for picture, facts in zip(layout.pictures, read_facts([each.image for each in layout.pictures]), strict=True):
        text = "\n".join(decode_lines(label_content(layout, picture) or b"", "replace"))
        index.rows.append(make_row(picture.name, facts, picture.part, text))
        files[facts.sha256] = picture.image
    findings = listed("left out", [*layout.lost, *layout.ignored])
    return index, files, "\n".join(findings + listed("read otherwise than written", layout.notes))


def files_of(index: Index, pictures: Path) -> list[File]:
    """Return the files of a version; adding them gives the same version. `pictures` has each under its digest."""
    files: list[File] = [
        ("classes.txt", "".join(f"{name}\n" for name in index.classes).encode()),
        ("notes.json", format_notes(index.classes)),
        *((name, pictures / sha256) for name, (sha256, _) in index.about.items()),
    ]
    for row in index.rows:
        files.append((f"images/{row.name}", pictures / row.sha256))
        if row.labels:
            files.append((f"labels/{row.name.rpartition('.')[0]}.txt", row.labels.encode()))
    for part in PARTS:
        if names := sorted(row.name for row in index.rows if row.part == part):
            files.append((f"{part}.txt", "".join(f"images/{name}\n" for name in names).encode()))
    return files


def name_version(params: Path, name: str, url: str, sha256: str) -> str:
    """Set the version in params.yaml; the preset `sample` is replaced by `store`."""
    values: dict[Key, str] = {("dataset", "name"): name, ("dataset", "url"): url, ("dataset", "sha256"): sha256}
    if get_param(params, ("presets", "dataset")) == "sample":
        values["presets", "dataset"] = "store"
    if set_params(params, values):
        return f"{PARAMS} now names this version; `dvc repro` trains on it"
    return f"{PARAMS} names this version already: nothing changed"


def read_source(folder: Path, where: str) -> Layout:
    """Detect the layout of a dataset; an error begins with `where` it came from."""
    try:
        return read_layout(folder)
    except DatasetError as error:
        raise DatasetError(f"{shown(where)}: {error}") from error


def unpack_zip(
    key: str, sha256: str, store: Store, folder: Path, *, work: Path, frame: Frame | None
) -> tuple[Layout, Check]:
    """Unpack a version that is a zip; DatasetError for boxes on turned pictures whose frame is unknown, None."""
    packed, url = work / "datasets" / f"{sha256[:12]}.zip", f"{SCHEME}{key}"
    packed.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(packed.with_suffix(".lock")):
        store.fetch(key, packed, sha256)
        try:
            unpack(packed, folder)
        finally:
            packed.unlink()
    layout = read_source(folder, url)
    check = check_dataset(layout, folder, frame or "seen")
    if check.turned and frame is None:
        raise DatasetError(
            f"{url}: EXIF turns {check.turned} of its pictures with boxes, and a zip does not say how they were drawn; "
            "`python -m runner dataset migrate --exif-boxes seen`: on the picture that viewers show; `--exif-boxes "
            "stored`: on the file's pixels, as prepare.exif_boxes took them by default"
        )
    return layout, check
