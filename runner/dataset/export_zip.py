"""`dataset export`: the version in params.yaml as a zip."""

from pathlib import Path
from typing import Literal

import yaml

from runner.config.compose import compose
from runner.dataset.archive import write_zip
from runner.dataset.index import Index, parse_index
from runner.dataset.picture_cache import cache_folder, fetch_pictures, find_lacking
from runner.dataset.versions import File, files_of, open_version
from runner.errors import DatasetError
from runner.store import key_of_url, open_store
from runner.workspace import ARTIFACTS, PARAMS, work_folder

ExportLayout = Literal["workshop", "ultralytics"]


def export_dataset(project: Path, out: Path, layout: ExportLayout) -> str:
    """Write the version that params.yaml names, or the sample, into a zip; adding it gives the same version again.

    ultralytics: pictures of no part go to train. Returns a line to print.
    """
    if out.is_dir():
        raise DatasetError(f"{out}: is a folder, expected the name of a zip to write, such as {out / 'dataset.zip'}")
    config, _ = compose(project)
    url, store, work = config.dataset.url, open_store(project), work_folder(project)
    if url == "sample":
        index = _drawn(project, work)
        pictures = cache_folder(work)
    elif not url.endswith(".jsonl"):
        remedy = "`dataset migrate` makes one of it"
        raise DatasetError(f"{PARAMS}: dataset.url is {url}, expected a version with an index; {remedy}")
    else:
        index, _ = open_version(url, config.dataset.sha256, store, work, work=work)
        pictures = fetch_pictures(index.sizes, store, key_of_url(url), work=work, hashed=True)
    write_zip(files_of(index, pictures) if layout == "workshop" else _ultralytics(index, pictures), out)
    return f"{out}: {len(index.rows):,} pictures, {sum(index.boxes):,} boxes"


def _drawn(project: Path, work: Path) -> Index:
    """Return the index of the sample as `fetch` drew it; DatasetError unless all pictures are in the cache."""
    file = project / ARTIFACTS / "raw" / "index.jsonl"
    index = parse_index(file.read_bytes(), str(file)) if file.is_file() else None
    if index is None or find_lacking(index.sizes, work, hashed=True):
        raise DatasetError("the sample is not drawn here; run `dvc repro --force --single-item fetch`, which draws it")
    return index


def _ultralytics(index: Index, pictures: Path) -> list[File]:
    """Return the files in Ultralytics' layout, as Roboflow and CVAT write it."""
    parts = dict.fromkeys(row.part or "train" for row in index.rows)
    data = {**{part: f"{part}/images" for part in sorted(parts)}, "names": index.classes}
    files: list[File] = [("data.yaml", yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode())]
    files += [(name, pictures / digest) for name, (digest, _) in index.about.items()]
    for row in index.rows:
        part = row.part or "train"
        files.append((f"{part}/images/{row.name}", pictures / row.sha256))
        files.append((f"{part}/labels/{row.name.rpartition('.')[0]}.txt", row.labels.encode()))
    return files
