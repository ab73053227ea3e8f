from pathlib import Path

import pytest
from dvc.config import Config

from runner.errors import StoreError
from runner.store.use import use_store

S3 = {
    "STORE_URI": "s3://planes",
    "AWS_ENDPOINT_URL": "https://minio:9000",
    "AWS_ACCESS_KEY_ID": "user",
    "AWS_SECRET_ACCESS_KEY": "geheim",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n    url = ../store/dvc\n"
    )
    return tmp_path


def remote(project: Path) -> dict[str, object]:
    values = Config(dvc_dir=str(project / ".dvc"))["remote"]["store"]
    return {key: values[key] for key in ("url", "endpointurl", "ssl_verify", "verify", "profile") if key in values}


def test_remote_is_the_bucket_when_the_store_is_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "ca.pem").write_text("")
    for name, value in (S3 | {"CA_BUNDLE": str(project / "ca.pem")}).items():
        monkeypatch.setenv(name, value)
    (project / ".dvc" / "config.local").write_text("['remote \"store\"']\n    profile = mine\n    url = s3://old/dvc\n")
    tracked = (project / ".dvc" / "config").read_bytes()
    assert "s3://planes/dvc" in use_store(project)
    assert remote(project) == {
        "profile": "mine",
        "url": "s3://planes/dvc",
        "endpointurl": "https://minio:9000",
        "ssl_verify": str(project / "ca.pem"),
        "verify": True,
    }
    assert (project / ".dvc" / "config").read_bytes() == tracked
    assert not any(b"geheim" in path.read_bytes() for path in project.rglob("*") if path.is_file())


def test_remote_is_beside_the_datasets_of_a_folder_and_as_tracked_again_when_no_store_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = remote(project)
    for name, value in S3.items():
        monkeypatch.setenv(name, value)
    use_store(project)
    monkeypatch.setenv("STORE_URI", "shared/my store")
    use_store(project)
    assert remote(project) == {"url": str(project / "shared" / "my store" / "dvc"), "verify": True}
    monkeypatch.setenv("STORE_URI", "")
    assert "store/dvc" in use_store(project)
    assert remote(project) == tracked


def test_use_is_refused_when_there_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"\.dvc is missing"):
        use_store(tmp_path)
