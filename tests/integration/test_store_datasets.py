from pathlib import Path

import pytest
import yaml

from runner.dataset.add import add_dataset
from runner.dataset.prefix import fetch_uri
from runner.errors import DatasetError
from runner.store import open_store
from runner.store.verify import verify_store
from tests.support.fetching import fetch_files, origin_of
from tests.support.s3 import S3, Use
from tests.support.shades import shade
from tests.support.trees import write_tree, zip_tree

PARAMS = "presets:\n  dataset: sample\ndataset:\n  url:\n  sha256:\nweights:\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "project", {"params.yaml": PARAMS})


def pictures(count: int) -> dict[str, bytes]:
    files = {"classes.txt": b"airplane\n"}
    for number in range(count):
        files[f"images/sky #{number:04} ü.png"] = shade(number, 16, 16)
        files[f"labels/sky #{number:04} ü.txt"] = b"0 0.5 0.5 0.2 0.2\n"
    return files


def put(server: S3, bucket: str, files: dict[str, bytes], prefix: str) -> None:
    for name, content in files.items():
        server.put(bucket.removeprefix("s3://"), f"{prefix}{name}", content)


@pytest.fixture
def bucket(s3: S3, use: Use, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that is the store too."""
    monkeypatch.delenv("RUNNER_WORK", raising=False)
    return use(s3.bucket()).uri


def test_version_is_the_same_from_prefix_zip_or_folder(bucket: str, s3: S3, repository: Path, tmp_path: Path) -> None:
    files = pictures(60)
    put(s3, bucket, files, "incoming/planes/")
    put(s3, bucket, {"planes.zip": zip_tree(tmp_path / "planes.zip", files).read_bytes()}, "incoming/")
    found = set()
    sources: list[str | Path] = [f"{bucket}/incoming/planes{end}" for end in ("/", "", ".zip")]
    for source in (*sources, write_tree(tmp_path / "planes", files)):
        assert "planes: 60 pictures, 60 boxes" in add_dataset(source, project=repository)
        found.add((repository / "params.yaml").read_text())
    (params,) = found
    dataset = yaml.safe_load(params)["dataset"]
    assert dataset["url"] == f"store:datasets/planes/{dataset['sha256'][:12]}.jsonl"
    store = open_store(repository)
    origin = origin_of(dataset["url"], dataset["sha256"], repository, tmp_path / "work")
    assert fetch_files(origin, tmp_path / "raw") == ""
    assert len(list((tmp_path / "raw" / "images").iterdir())) == 60
    assert verify_store(store)[1]
    assert [path.name for path in (repository / ".work").iterdir()] == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"/incoming/: there is nothing under it, expected a zip, or the files of a dataset; check its name$"),
        (["images/A.png", "images/a.png"], r"images/[Aa].png and images/[aA].png are one file on many disks"),
        (["images/\x01.png"], r"empty or with control characters, expected a plain relative path"),
    ],
)
def test_refused_when_names_could_do_harm(minio: S3, use: Use, tmp_path: Path, names: list[str], message: str) -> None:
    bucket = use(minio.bucket()).uri
    put(minio, bucket, {name: b"x" for name in names}, "incoming/")
    with pytest.raises(DatasetError, match=message):
        fetch_uri(f"{bucket}/incoming/", tmp_path / "out")
    assert not (tmp_path / "out").exists()
