import pickle
import re
import shutil
from pathlib import Path

import pytest

from runner.dataset.weights import add_weights, fetch_weights
from runner.errors import ConfigError, StoreError
from runner.store import open_store
from runner.workspace import sha256_of
from tests.support.trees import zip_tree

PARAMS = "presets:\n  model: yolo11n\nweights:  # digests\n"


class Trap:
    """Unpickling this ends the test."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the file was unpickled",)


@pytest.fixture
def repository(tmp_path: Path, project: Path) -> Path:
    """A project's folder, in which nothing was added yet."""
    folder = tmp_path / "project"
    shutil.copytree(project / "conf" / "model", folder / "conf" / "model")
    (folder / "params.yaml").write_text(PARAMS)
    return folder


def torch_zip(path: Path) -> Path:
    return zip_tree(path, {f"{path.stem}/data.pkl": pickle.dumps(Trap()), f"{path.stem}/version": b"3\n"})


def test_weights_are_stored_and_their_digest_is_noted(repository: Path, tmp_path: Path) -> None:
    file = torch_zip(tmp_path / "yolo11n.pt")
    sha256 = sha256_of(file)
    key = f"weights/{sha256[:12]}-yolo11n.pt"
    text = add_weights(file, project=repository)
    assert text.startswith(f"stored as store:{key} (store: {repository / 'store'})\n")
    assert "set presets.model: yolo11n in params.yaml" in text
    assert (repository / "params.yaml").read_text() == f"{PARAMS}  yolo11n.pt: {sha256}\n"
    assert (repository / "store" / key).read_bytes() == file.read_bytes()
    text = add_weights(file, project=repository)
    assert f"in the store already: store:{key}" in text
    assert "params.yaml names it already: nothing changed" in text
    assert (repository / "params.yaml").read_text() == f"{PARAMS}  yolo11n.pt: {sha256}\n"


def test_weights_of_older_torch_take_the_place_of_a_file_of_the_same_name(repository: Path, tmp_path: Path) -> None:
    file = torch_zip(tmp_path / "best.pt")
    sha256 = sha256_of(file)
    assert "set model.base: best.pt in params.yaml" in add_weights(file, project=repository)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    file.write_bytes(magic + pickle.dumps(Trap()))
    text = add_weights(file, project=repository)
    assert f"params.yaml: best.pt now means this file, no longer the one with sha256 {sha256}" in text
    assert len(open_store(repository).list("weights/")) == 2


TORCHSCRIPT = dict.fromkeys(("a/data.pkl", "a/constants.pkl", "a/code/a.py"), b"")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pt", b"", "empty"),
        ("a.pt", TORCHSCRIPT, "an export to TorchScript"),
        ("b.pt", {"images/a.jpg": b""}, "a zip, but not one of torch"),
        ("a.pt", b"<html>404</html>", "not weights of torch"),
        ("a.pt", pickle.dumps({"a": Trap()}), "not weights of torch"),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.pt", b"PK\x03\x04" + bytes(100), "damaged or truncated"),
        ("a.onnx", b"\x08\x07", "its name is not one for weights"),
        ("my weights.pt", b"", "its name is not one for weights"),
        ("-a.pt", b"", "its name is not one for weights"),
        ("yolo11n.yaml", b"nc: 80", r"an architecture, .* model\.base: yolo11n\.yaml"),
        ("yolo11n.yaml", None, r"an architecture, .* model\.base: yolo11n\.yaml"),
        ("yolo11n.pt", None, "there is no such file"),
    ],
)
def test_file_is_refused_when_it_is_not_weights(
    repository: Path, tmp_path: Path, name: str, content: bytes | dict[str, bytes] | None, reason: str
) -> None:
    if isinstance(content, dict):
        zip_tree(tmp_path / name, content)
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"{re.escape(name)}: {reason}"):
        add_weights(tmp_path / name, project=repository)
    assert (repository / "params.yaml").read_text() == PARAMS
    assert not (repository / "store").exists()


def test_weights_are_fetched_once_and_checked(repository: Path, tmp_path: Path) -> None:
    file, work = torch_zip(tmp_path / "best.pt"), tmp_path / "work"
    sha256 = sha256_of(file)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        add_weights(file, project=tmp_path)
    add_weights(file, project=repository)
    store = open_store(repository)
    fetched = fetch_weights("best.pt", sha256, store, work)
    assert (fetched.name, fetched.read_bytes()) == ("best.pt", file.read_bytes())
    before = fetched.stat().st_mtime_ns
    assert fetch_weights("best.pt", sha256, store, work).stat().st_mtime_ns == before
    fetched.write_bytes(b"cut")
    assert fetch_weights("best.pt", sha256, store, work).read_bytes() == file.read_bytes()
    fetched.unlink()
    key = f"weights/{sha256[:12]}-best.pt"
    (repository / "store" / key).write_bytes(b"other")
    with pytest.raises(StoreError, match=rf"{key}: its sha256 is [0-9a-f]{{64}}, but {sha256} was expected"):
        fetch_weights("best.pt", sha256, store, work)
    with pytest.raises(StoreError, match=r"there is no weights/000000000000-best\.pt"):
        fetch_weights("best.pt", "0" * 64, store, work)
    assert not list(work.rglob("*.pt"))
