"""What kubectl says: of a cluster's kinds, with an API whose answers are given; and of a call that fails."""

import os
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import kubectl
from runner.errors import ClusterError, UnreachableError
from tests.unit.runner.cluster.conftest import Answers, log_in


def listed(version: str, **kinds: str) -> dict[str, Any]:
    resources = [{"name": name, "kind": kind, "namespaced": True, "verbs": ["list"]} for name, kind in kinds.items()]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def test_kinds_are_known_when_only_anothers_server_is_away(
    cluster: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster |= {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": listed("v1", configmaps="ConfigMap"),
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group("here.io"), group("away.io")]},
        "/apis/here.io/v1": listed("here.io/v1", things="Thing"),
        "/apis/away.io/v1": 503,
    }
    assert kubectl.kinds(["", "here.io"]) == {("", "ConfigMap"): "v1", ("here.io", "Thing"): "here.io/v1"}
    with pytest.raises(UnreachableError, match=r"away\.io/v1"):
        kubectl.kinds(["here.io", "away.io"])
    log_in(tmp_path, monkeypatch, 9)  # where nobody answers
    with pytest.raises(UnreachableError, match="does not answer"):
        kubectl.kinds([])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Error from server (ServiceUnavailable): the server is unable", UnreachableError),
        ("Unable to connect to the server: net/http: TLS handshake timeout", UnreachableError),
        ("", UnreachableError),
        ("Error from server (NotFound): pods p not found", kubectl.MissingError),
        ("error: the server could not find the requested resource", kubectl.MissingError),
        ("Error from server (Forbidden): pods is forbidden", ClusterError),
        ("error: You must be logged in to the server (Unauthorized)", ClusterError),
        ("Error from server (AlreadyExists): pods p already exists", kubectl.ConflictError),
    ],
)
def test_a_call_fails_as_kubectl_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[ClusterError]
) -> None:
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    with pytest.raises(ClusterError) as caught:
        kubectl.request("get", "/api/v1/pods/p")
    assert type(caught.value) is kind
    assert "/api/v1/pods/p" in str(caught.value)
    assert said in str(caught.value)
    if kind is kubectl.MissingError:
        assert kubectl.get("/api/v1/pods/p") is None
        assert kubectl.items("/api/v1/pods/p") == []
