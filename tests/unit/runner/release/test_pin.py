import subprocess
from pathlib import Path

import pytest
import yaml

from runner.errors import ConfigError
from runner.release.pin import KEYS, Pin, environments, read_pin, write_pin
from tests.support.processes import program

PIN = Pin("s3://things/models/things/3/manifest.json", "a" * 64, "3", "0123abcd", "0.930")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of the environment dev, in tmp_path."""
    folder = tmp_path / "gitops/serving/environments/dev"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("text", [None, "", "\n# nothing yet\n", "".join(f"{key}=\n" for key in KEYS)])
def test_there_is_none_when_it_is_missing_or_empty(tmp_path: Path, place: Path, text: str | None) -> None:
    if text is not None:
        (place / "model.env").write_text(text)
    assert read_pin(tmp_path, "dev") is None
    assert read_pin(tmp_path, "prod") is None
    assert environments(tmp_path) == ([] if text is None else ["dev"])


@pytest.mark.parametrize("note", ["", "forced: AP50 of größe 0.1,\n at least = 0.2"])
def test_it_is_read_when_it_was_written(tmp_path: Path, place: Path, note: str) -> None:
    pin = PIN._replace(note=note)
    assert write_pin(tmp_path, "dev", pin)
    assert read_pin(tmp_path, "dev") == pin._replace(note=" ".join(note.split()))
    assert not write_pin(tmp_path, "dev", pin)
    lines = (place / "model.env").read_text(encoding="utf-8").splitlines()
    assert [line.partition("=")[0] for line in lines if not line.startswith("#")] == list(KEYS)
    assert [path.name for path in place.iterdir()] == ["model.env"]


def test_kustomize_reads_the_values_when_there_is_a_note(tmp_path: Path, place: Path) -> None:
    kubectl = program("kubectl", "install it")
    write_pin(tmp_path, "dev", PIN._replace(note='forced: mAP50 = "0.1" # or so'))
    (place / "kustomization.yaml").write_text("configMapGenerator:\n- name: model\n  envs: [model.env]\n")
    rendered = subprocess.run([kubectl, "kustomize", str(place)], check=True, capture_output=True).stdout
    assert yaml.safe_load(rendered)["data"] == dict(zip(KEYS, PIN[:5], strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL_URI\n", r"model\.env:1: found 'MODEL_URI'"),
        ("MODEL_URI=a\nMODEL_URI=b\n", r"model\.env:2: found 'MODEL_URI=b'"),
        ("MODEL_NAME=a\n", r"model\.env:1: found 'MODEL_NAME=a'"),
        ("MODEL_URI=a\n", r"model\.env: MODEL_SHA256 is ''.* --to dev`"),
        ("MODEL_URI=a\nMODEL_SHA256=abc\n", r"model\.env: MODEL_SHA256 is 'abc'"),
        ("MODEL_URI=\udcff", r"model\.env: cannot be read"),
    ],
)
def test_refused_when_it_is_not_a_pin(tmp_path: Path, place: Path, text: str, message: str) -> None:
    (place / "model.env").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=message):
        read_pin(tmp_path, "dev")


def test_refused_when_there_is_no_such_environment(tmp_path: Path, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"environments/prod/: .*\(there are: dev\)"):
        write_pin(tmp_path, "prod", PIN)
    assert not (place.parent / "prod").exists()
