"""Signatures of versions in the store: made by publish, verified by gate, promote, pin and server."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import compose
from runner.errors import ConfigError, ObjectError, StageError
from runner.release.deployed import NotDeployedError, champions, load_deployed
from runner.release.models import list_models
from runner.release.promote import choose, promote
from runner.release.signing import sign_version
from runner.retrain.bot_commit import Run, pin
from runner.store import open_store
from runner.store.published import read_version
from runner.store.signatures import FOLDER, check_signature, signatures_of
from serving.inference.loading import load
from serving.settings import Settings
from serving.storage.model import LoadingError
from tests.support.certificates import make_key
from tests.support.trained import Trained

VERSION = "models/flyingthings/1"
Change = Callable[[Trained], None]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A project whose version 1 is signed and pinned to dev; its Git requires signatures."""
    trained = Trained(tmp_path_factory.mktemp("published"))
    (trained.folder / "gitops/serving/environments/dev").mkdir(parents=True)
    (trained.folder / FOLDER).mkdir(parents=True)
    (trained.folder / FOLDER / "signers.pem").write_bytes(make_key(trained.folder, "private"))
    (trained.folder / FOLDER / "signatures.env").write_text("SIGNATURES=require\n")
    trained.judge()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGNING_KEY", str(trained.folder / "private.pem"))
        done = trained.publish()
    assert done.signature.startswith("valid, by key ")
    store = open_store(trained.folder)
    promote(trained.folder, store, "dev", done.version, force=False, allow_local=True)
    return trained


@pytest.fixture
def trained(published: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A copy of it, to change."""
    for name in ("SIGNATURES", "SIGNERS", "SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    copy = Trained.__new__(Trained)
    copy.__dict__ |= published.__dict__ | {"folder": tmp_path / "project"}
    shutil.copytree(published.folder, copy.folder)
    pinned = copy.folder / "gitops/serving/environments/dev/model.env"
    pinned.write_text(pinned.read_text().replace(str(published.folder), str(copy.folder)))
    monkeypatch.chdir(copy.folder)
    return copy


def served(trained: Trained) -> str:
    """Load the version as a server with the same signers does; return what it says of the signature."""
    uri, signers = (str(trained.folder / path) for path in (f"store/{VERSION}/manifest.json", FOLDER / "signers.pem"))
    mode: Any = signatures_of(trained.folder).mode
    return load(Settings(model_uri=uri, signatures=mode, signers=signers)).signature


def used(trained: Trained, tmp_path: Path) -> dict[str, str]:
    """Return who refuses the version, with the reason: everyone who would load or pin it, by name."""
    store, project = open_store(trained.folder), trained.folder
    left_out: list[str] = []

    def as_champion() -> None:
        if not champions(project, compose(project)[0], left_out):
            raise ObjectError(left_out[-1])

    def promoted() -> None:
        promote(project, store, "dev", choose(project, store, "dev", None, 1), force=True, allow_local=True)

    def pinned() -> None:
        pin(Run("none", "0" * 64, "0" * 40, "", "main"), store, "flyingthings", 1, mode="push")

    everyone: dict[str, Callable[[], object]] = {
        "gate": lambda: load_deployed(project, "dev", tmp_path / "work"),
        "champion": as_champion,
        "promote": promoted,
        "pin": pinned,
        "server": lambda: served(trained),
    }
    refused = {}
    for name, use in everyone.items():
        try:
            use()
        except (NotDeployedError, ObjectError, StageError, LoadingError) as error:
            refused[name] = str(error)
    return refused


def test_accepted_by_all_when_it_is_signed(trained: Trained, tmp_path: Path) -> None:
    refused = used(trained, tmp_path)
    assert "pipeline/none/release.json" in refused.pop("pin")  # past the signature: there is no such run
    assert refused == {}
    assert served(trained).startswith("valid, by key ")
    (entry,) = list_models(trained.folder, open_store(trained.folder))
    assert entry["signed"] is True
    manifest = json.loads((trained.folder / "store" / VERSION / "manifest.json").read_text())
    assert manifest["gated_by"] == "by hand"


@pytest.mark.parametrize(
    ("file", "who"),
    [
        (f"{VERSION}/model.onnx", {"gate", "promote", "server"}),
        (f"{VERSION}/manifest.json", {"gate", "champion", "promote", "pin", "server"}),
        (f"{VERSION}/model.sig", {"gate", "champion", "promote", "pin", "server"}),
        ("runs/flyingthings/1/verdict.json", {"gate", "champion", "promote", "pin"}),  # a server reads models/ alone
    ],
)
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_refused_when_one_byte_flips(file: str, who: set[str], place: float, trained: Trained, tmp_path: Path) -> None:
    path = trained.folder / "store" / file
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    assert used(trained, tmp_path).keys() == who | {"pin"}


def test_not_taken_for_another_version_when_its_folder_is_copied(trained: Trained) -> None:
    shutil.copytree(trained.folder / "store" / VERSION, trained.folder / "store/models/flyingthings/2")
    with pytest.raises(ObjectError, match="is the manifest of flyingthings 1"):
        read_version(open_store(trained.folder), "flyingthings", 2)
    with pytest.raises(LoadingError, match="is the manifest of flyingthings 1"):
        load(Settings(model_uri=str(trained.folder / "store/models/flyingthings/2/manifest.json")))


def test_served_by_an_old_pin_when_a_version_of_before_is_signed(trained: Trained, tmp_path: Path) -> None:
    store, signature = open_store(trained.folder), trained.folder / "store" / VERSION / "model.sig"
    signature.unlink()
    before = hashlib.sha256((signature.parent / "manifest.json").read_bytes()).hexdigest()
    version = read_version(store, "flyingthings", 1)
    assert used(trained, tmp_path).keys() == {"gate", "champion", "promote", "pin", "server"}
    with pytest.raises(StageError, match="SIGNING_KEY"):
        sign_version(trained.folder, store, version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGNING_KEY", str(trained.folder / "private.pem"))
        assert before in sign_version(trained.folder, store, version)
        assert "already" in sign_version(trained.folder, store, version)
    assert used(trained, tmp_path).keys() == {"pin"}


def test_not_signed_when_git_has_another_digest_or_a_file_is_damaged(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNING_KEY", str(trained.folder / "private.pem"))
    store, folder = open_store(trained.folder), trained.folder / "store" / VERSION
    (folder / "model.sig").unlink()
    verdict = trained.folder / "store/runs/flyingthings/1/verdict.json"
    judged = verdict.read_bytes()
    verdict.write_text("{}")
    with pytest.raises(ObjectError, match=r"verdict\.json"):
        sign_version(trained.folder, store, read_version(store, "flyingthings", 1))
    verdict.write_bytes(judged)
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ObjectError, match="sha256"):
        sign_version(trained.folder, store, read_version(store, "flyingthings", 1))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(
        json.dumps(manifest | {"onnx_sha256": hashlib.sha256(b"another").hexdigest()})
    )
    with pytest.raises(ObjectError, match="dev is pinned to"):
        sign_version(trained.folder, store, read_version(store, "flyingthings", 1))
    assert not (folder / "model.sig").exists()


def test_valid_by_both_keys_when_one_takes_the_place_of_another(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    signers, store = trained.folder / FOLDER / "signers.pem", open_store(trained.folder)
    version, old, new = read_version(store, "flyingthings", 1), signers.read_bytes(), make_key(trained.folder, "new")
    signers.write_bytes(old + new)
    former = check_signature(trained.folder, store, version)
    signers.write_bytes(new)
    with pytest.raises(ObjectError, match="unknown key"):
        check_signature(trained.folder, store, version)
    monkeypatch.setenv("SIGNING_KEY", str(trained.folder / "new.pem"))
    sign_version(trained.folder, store, version)
    assert check_signature(trained.folder, store, version) not in (former, "")


def test_nothing_is_published_when_it_could_not_be_used(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URI", str(trained.folder / "empty"))
    with pytest.raises(StageError, match="without a signature"):
        trained.publish()
    make_key(trained.folder, "unknown")
    monkeypatch.setenv("SIGNING_KEY", str(trained.folder / "unknown.pem"))
    with pytest.raises(StageError, match="not among the signers"):
        trained.publish()
    (trained.folder / "unknown.pem").write_text("no key")
    with pytest.raises(StageError, match=r"unknown\.pem"):
        trained.publish()
    assert not (trained.folder / "empty").exists()


def test_published_and_served_and_said_when_a_fork_has_no_key(trained: Trained, tmp_path: Path) -> None:
    shutil.rmtree(trained.folder / FOLDER)
    shutil.rmtree(trained.folder / "store")
    with chdir(trained.folder):
        done = trained.publish()
    assert "signature: not checked: no public key is configured" in done.as_text()
    assert not (trained.folder / "store" / VERSION / "model.sig").exists()
    assert served_without_key(trained) == done.signature


def served_without_key(trained: Trained) -> str:
    return load(Settings(model_uri=str(trained.folder / "store" / VERSION / "manifest.json"))).signature


def test_a_bare_onnx_is_served_unless_signatures_are_required(trained: Trained) -> None:
    signers = str(trained.folder / FOLDER / "signers.pem")
    uri = str(trained.folder / "store" / VERSION / "model.onnx")
    assert load(Settings(model_uri=uri, signers=signers)).signature.startswith("not valid: ")
    with pytest.raises(LoadingError, match="is not signed"):
        load(Settings(model_uri=uri, signers=signers, signatures="require"))


def test_refused_when_the_settings_in_git_are_wrong(trained: Trained) -> None:
    (trained.folder / FOLDER / "signatures.env").write_text("SIGNATURES=no\n")
    with pytest.raises(ConfigError, match="SIGNATURES is 'no'"):
        signatures_of(trained.folder)
    (trained.folder / FOLDER / "signatures.env").write_text("SIGNATURES=warn\n")
    (trained.folder / FOLDER / "signers.pem").write_bytes((trained.folder / "private.pem").read_bytes())
    with pytest.raises(ConfigError, match=r"signers\.pem"):
        signatures_of(trained.folder)
