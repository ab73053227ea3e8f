"""Stage fetch: draw the sample, or unpack the dataset's version from the store."""

from pathlib import Path

from runner.config.schema import SampleConfig


def fetch(url: str, sha256: str | None, sample: SampleConfig, raw: Path, *, project: Path, work: Path) -> str:
    """Fill an empty folder with classes.txt, images/, labels/ and notes.json; return a line to print.

    `url` is `sample`, or the dataset's version in the store with the hex digest `sha256`. A relative STORE_URI is below
    `project`.
    """
    if url == "sample":
        from runner.sample import draw_sample

        draw_sample(raw, pictures=sample.pictures, seed=sample.seed)
        return f"{sample.pictures} pictures drawn"
    from runner.dataset.versions import fetch_dataset
    from runner.store import open_store

    return fetch_dataset(url, sha256, open_store(project), raw, work=work)
