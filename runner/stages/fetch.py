"""The stage fetch: draw the sample, or unpack the dataset's version from the store."""

from __future__ import annotations

from pathlib import Path

from runner.config.schema import Sample


def fetch(url: str, sha256: str | None, sample: Sample, raw: Path, *, project: Path, work: Path) -> str:
    """Fill `raw` with classes.txt, images/, labels/ and notes.json.

    Args:
        url: `sample`, or the dataset's version in the store.
        sha256: of the version; None for the sample.
        sample: how many pictures the sample has, and its seed.
        raw: an empty folder.
        project: the folder that a relative STORE_URI resolves against.
        work: the scratch folder.
    Returns:
        A line for people.
    Raises:
        DatasetError: the version is not what it says it is.
        StoreError: the store cannot be reached, or lacks the version.
    """
    if url == "sample":
        from runner.sample import draw_sample

        draw_sample(raw, pictures=sample.pictures, seed=sample.seed)
        return f"{sample.pictures} pictures drawn"
    from runner.dataset.versions import fetch_dataset
    from runner.store import open_store

    return fetch_dataset(url, sha256, open_store(project), raw, work=work)
