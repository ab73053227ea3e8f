"""OpenShift GitOps that others installed is used as it is, or refused with the line that would make it do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import kubectl
from runner.cluster.openshift_gitops import (
    LINE,
    NAMESPACE,
    PARTS,
    VARIABLE,
    adding,
    others_subscription,
    require_usable,
)
from runner.errors import ClusterError, ConfigError
from tests.support import gitops

Object = dict[str, Any]


def subscription(
    env: list[Object] | None = None, *, package: str = "openshift-gitops-operator", labels: Object | None = None
) -> Object:
    """A Subscription as OpenShift's console makes it."""
    meta = {"name": "theirs", "namespace": "openshift-operators", "labels": labels or {}}
    config = {} if env is None else {"config": {"env": env}}
    status = {"installedCSV": "openshift-gitops-operator.v1.20.1"}
    return {"metadata": meta, "spec": {"name": package, **config}, "status": status}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project without the line that would install the operator once more."""
    target = tmp_path / PARTS
    target.parent.mkdir(parents=True)
    shutil.copy2(gitops.PROJECT / PARTS, target)
    lines = target.read_text().splitlines(keepends=True)
    target.write_text("".join(line for line in lines if LINE not in line))
    return tmp_path


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([], False),
        ([subscription(package="web-terminal")], False),
        ([subscription(labels={"app.kubernetes.io/part-of": "flywheel"})], False),
        ([subscription(package="web-terminal"), subscription()], True),
    ],
)
def test_a_subscription_is_others_when_it_is_of_the_operator_and_not_ours(
    monkeypatch: pytest.MonkeyPatch, there: list[Object], found: bool
) -> None:
    monkeypatch.setattr(kubectl, "items", lambda _: there)
    assert (others_subscription() is not None) == found


def test_it_is_refused_when_argocd_would_install_it_once_more() -> None:
    with pytest.raises(ConfigError, match=f"{PARTS}: .*{LINE}"):
        require_usable(gitops.PROJECT, subscription([{"name": VARIABLE, "value": NAMESPACE}]))


@pytest.mark.parametrize("installed", ["openshift-gitops-operator.v1.9.4", "openshift-gitops-operator.v1.19.0", None])
def test_it_is_refused_when_it_is_too_old(folder: Path, installed: str | None) -> None:
    old = subscription([{"name": VARIABLE, "value": NAMESPACE}]) | {"status": {"installedCSV": installed}}
    with pytest.raises(ClusterError, match=r"installed is .*1\.20 or later"):
        require_usable(folder, old)


@pytest.mark.parametrize(
    ("env", "value"),
    [
        (None, f"openshift-gitops,{NAMESPACE}"),
        ([{"name": "OTHER", "value": "kept"}], f"openshift-gitops,{NAMESPACE}"),
        ([{"name": VARIABLE, "value": "openshift-gitops, team-a"}], f"openshift-gitops,team-a,{NAMESPACE}"),
    ],
)
def test_the_line_is_printed_when_the_operator_keeps_our_argocd_to_its_namespace(
    folder: Path, env: list[Object] | None, value: str
) -> None:
    theirs = subscription(env)
    with pytest.raises(ClusterError, match=r"oc -n openshift-operators patch subscription theirs"):
        require_usable(folder, theirs)
    patch = json.loads(adding(theirs).partition("-p '")[2].removesuffix("'"))
    variables = {each["name"]: each["value"] for each in patch["spec"]["config"]["env"]}
    assert variables == {each["name"]: each["value"] for each in env or []} | {VARIABLE: value}
    require_usable(folder, {**theirs, "spec": {**theirs["spec"], **patch["spec"]}})
