"""What `fetch` brings of a version, as files."""

from pathlib import Path

from runner.config.schema import SampleConfig
from runner.dataset.picture_cache import cache_folder
from runner.dataset.versions import files_of
from runner.stages.fetch import Origin, fetch, read_raw
from tests.support.trees import write_tree


def origin_of(url: str, sha256: str | None, project: Path, work: Path, pictures: int = 20) -> Origin:
    """A dataset; the sample has so many pictures."""
    return Origin(url, sha256, SampleConfig(pictures=pictures, seed=0), project, work)


def fetch_files(origin: Origin, out: Path) -> str:
    """Fetch, and write the files that make the same version into `out`, new; return what `fetch` says."""
    raw = out.parent / f"{out.name} as an index"
    raw.mkdir(parents=True, exist_ok=True)
    text = fetch(origin, raw)
    files = files_of(read_raw(raw), cache_folder(origin.work))
    write_tree(out, {name: file if isinstance(file, bytes) else file.read_bytes() for name, file in files})
    return text
