"""Stage fetch: the index of the dataset, from the drawn sample or a version in the store; and its pictures.

The stage's output is the index. Pictures are in the cache, from which a fresh clone, or a machine that took the output
from DVC's cache, lacks some: `bring_pictures` gets those that a stage uses from where the dataset comes from.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from runner.config.schema import SampleConfig
from runner.dataset.index import Index, format_index, parse_index, read_index
from runner.dataset.picture_cache import cache_folder, fetch_pictures, find_lacking, keep_picture, remove_unused
from runner.errors import DatasetError
from runner.store import key_of_url, open_store

SAMPLE = "sample"
INDEX = "index.jsonl"


class Origin(NamedTuple):
    """Place that a dataset comes from."""

    url: str  # sample, or store:datasets/<name>/<sha12>.jsonl; .zip of an earlier version of this code, or by hand
    sha256: str | None  # hex digest of what the URL names
    sample: SampleConfig
    project: Path  # a relative STORE_URI is below it
    work: Path  # scratch folder, with the cache of pictures


def fetch(origin: Origin, raw: Path) -> str:
    """Write the dataset's index into a folder and its pictures into the cache; return a text to print.

    Only pictures that the cache lacks are fetched; a killed download resumes.
    """
    if origin.url.endswith(".jsonl"):
        store, text = open_store(origin.project), ""
        index = read_index(origin.url, origin.sha256, store, work=origin.work)
        fetch_pictures(index.sizes, store, key_of_url(origin.url), work=origin.work)
    else:
        index, text = _make_anew(origin, None)
    (raw / INDEX).write_bytes(format_index(index))
    remove_unused(origin.work)
    return text


def read_raw(raw: Path) -> Index:
    """Return the index that `fetch` wrote."""
    file = raw / INDEX
    return parse_index(file.read_bytes(), str(file))


def bring_pictures(sizes: Mapping[str, int], origin: Origin) -> Path:
    """Return the cache with all these pictures, digest → bytes, each hashed now; those lacking are brought back.

    DatasetError, ObjectError: the dataset has them no more.
    """
    if origin.url.endswith(".jsonl"):
        key = key_of_url(origin.url)
        return fetch_pictures(sizes, open_store(origin.project), key, work=origin.work, hashed=True)
    if lacking := find_lacking(sizes, origin.work, hashed=True):
        _make_anew(origin, lacking)
        if gone := find_lacking(lacking, origin.work, hashed=True):
            raise DatasetError(
                f"{len(gone)} pictures of the dataset are not in {cache_folder(origin.work)}, the first is "
                f"{next(iter(gone))}, and {origin.url} gives others now; run `dvc repro --force --single-item fetch`, "
                "then `dvc repro`"
            )
    return cache_folder(origin.work)


def _make_anew(origin: Origin, wanted: Collection[str] | None) -> tuple[Index, str]:
    """Draw the sample, or unpack a zip; return its index and a text to print.

    Its pictures get into the cache, those `wanted` by digest alone; None: all.
    """
    origin.work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="fetch-", dir=origin.work) as scratch:
        folder = Path(scratch, "files")
        if origin.url == SAMPLE:
            index, files, text = _draw(origin.sample, folder)
        else:
            from runner.dataset.versions import read_zip  # imports every layout of datasets

            store = open_store(origin.project)
            index, files, text = read_zip(origin.url, origin.sha256, store, folder, work=origin.work)
        for sha256, file in files.items():
            if wanted is None or sha256 in wanted:
                keep_picture(sha256, file, origin.work)
    return index, text


def _draw(sample: SampleConfig, folder: Path) -> tuple[Index, dict[str, Path], str]:
    from runner.dataset.check import make_row, read_facts
    from runner.sample import CLASSES, draw_sample

    folder.mkdir()
    draw_sample(folder, pictures=sample.pictures, seed=sample.seed)
    images = sorted((folder / "images").iterdir())
    index, files = Index(list(CLASSES), {}, []), dict[str, Path]()
    for image, facts in zip(images, read_facts(images), strict=True):
        labels = folder / "labels" / f"{image.stem}.txt"
        index.rows.append(make_row(image.name, facts, None, labels.read_text() if labels.exists() else ""))
        files[facts.sha256] = image
    return index, files, f"{len(images)} pictures drawn"
