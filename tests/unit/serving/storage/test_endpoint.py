from pathlib import Path

import pytest

from serving.storage.endpoint import tls_context
from tests.support.certificates import certificate


def test_both_are_trusted_when_there_is_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = len(tls_context().get_ca_certs())
    monkeypatch.setenv("CA_BUNDLE", str(certificate(tmp_path, "localhost")[0]))
    assert len(tls_context().get_ca_certs()) == system + 1
    monkeypatch.setenv("CA_BUNDLE", str(tmp_path / "gone.pem"))
    with pytest.raises(FileNotFoundError):
        tls_context()
