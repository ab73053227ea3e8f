"""The Job of gitops/credentials: a key that two sides share is made for both or for none."""

from __future__ import annotations

import io
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.support.gitops import load_program

LINE = ["from", "flywheel-minio/argocd-webhook", "shared", "argocd|openshift-gitops", "argocd-secret"]
HOME, TARGET = "/api/v1/namespaces/flywheel-minio/secrets", "flywheel-pipelines/argocd-webhook"
KEY = "webhook.github.secret"


class Api:
    """Secrets by path; what is not there may not be read."""

    def __init__(self, **argocd: str) -> None:
        self.secrets: dict[str, dict[str, Any]] = {f"{HOME}/argocd-webhook": {"data": {"secret": "a2V5"}}}
        self.made: dict[str, Any] = {}
        if argocd:
            path = "/api/v1/namespaces/openshift-gitops/secrets/argocd-secret"
            self.secrets[path] = {"metadata": {"resourceVersion": "7"}, "data": dict(argocd)}

    def request(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
        """Answer as the API server does."""
        if method == "PATCH":
            assert body and body["metadata"] == {"resourceVersion": "7"}
            self.secrets[path]["data"] |= body["data"]
        elif body is not None:
            self.made[path] = body
        elif path not in self.secrets:
            raise HTTPError(path, 403, "Forbidden", Message(), io.BytesIO())
        return self.secrets.get(path, {})


@pytest.fixture(scope="module")
def program(project: Path) -> ModuleType:
    """The program of the Job."""
    return load_program(project / "gitops/credentials/make_secrets.py")


def test_a_line_is_for_each_environment_when_it_names_none(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENTS", "dev qa")
    table = "# a note of <environment>\n\na/b c=?\nflywheel-<environment>/store from a/server-<environment>\n"
    assert list(program.lines("")) == []
    assert list(program.lines(table)) == [
        "a/b c=?",
        "flywheel-dev/store from a/server-dev",
        "flywheel-qa/store from a/server-qa",
    ]


def made(program: ModuleType, api: Api, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(program, "request", api.request)
    return str(program.make(TARGET, [*LINE, KEY]))


@pytest.mark.parametrize(
    ("argocd", "copied"),
    [({"admin.password": "eA==", "tls.crt": "Y2VydA=="}, {"ca.crt": "Y2VydA=="}), ({KEY: "a2V5"}, {})],
)
def test_both_have_the_key_when_argocd_had_none_or_has_it_already(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, argocd: dict[str, str], copied: dict[str, str]
) -> None:
    api = Api(**argocd)
    assert made(program, api, monkeypatch) == "made"
    (theirs,) = (secret["data"] for path, secret in api.secrets.items() if path.endswith("argocd-secret"))
    assert theirs == argocd | {KEY: "a2V5"}
    (ours,) = api.made.values()
    assert ours["data"] == {"secret": "a2V5"} | copied


@pytest.mark.parametrize("argocd", [{KEY: "b3RoZXI="}, {}])
def test_nothing_is_set_up_when_argocd_has_another_key_or_may_not_be_asked(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, argocd: dict[str, str]
) -> None:
    api = Api(**argocd)
    assert made(program, api, monkeypatch).startswith("not made: ")
    assert api.made == {}
    assert all(secret["data"].get(KEY) in (None, "b3RoZXI=") for secret in api.secrets.values())


def test_no_copy_is_made_when_argocd_does_not_take_the_key(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(**{"tls.crt": "Y2VydA=="})

    def request(path: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
        if method == "PATCH":
            raise HTTPError(path, 409, "Conflict", Message(), io.BytesIO())
        return api.request(path, body, method)

    monkeypatch.setattr(program, "request", request)
    with pytest.raises(HTTPError):
        program.make(TARGET, [*LINE, KEY])
    assert api.made == {}
