"""The way to the forge through a proxy, past a company's own authority: Git, the forge's API, and what stays inside."""

import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from botocore.utils import get_environ_proxies

from runner.errors import GitError
from runner.forge.forges import forge_of
from runner.forge.git import head_of
from runner.pipeline import doctor
from runner.retrain.argocd import send_push
from serving.storage.endpoint import Endpoint, connect, pool_of
from tests.support import gitops
from tests.support.certificates import certificate
from tests.support.forge import Forge, serving_forge
from tests.support.processes import free_port
from tests.support.projects import git
from tests.support.proxy import Proxy, proxying

HOST = "forge.invalid"
STORE, LABEL_STUDIO = "https://minio.flywheel-minio.svc:9000", "http://label-studio:8080"
Settings = dict[str, str]


class Company(NamedTuple):
    """A forge that only the proxy reaches and only the company's authority vouches for, and the pods' settings."""

    forge: Forge
    proxy: Proxy
    head: str
    objects: list[gitops.Manifest]
    settings: Settings


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    """The settings are those of the Tasks, as kustomize renders them; the file of authorities is elsewhere here."""
    authority, key = certificate(tmp_path / "company", HOST)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority, key)
    git(tmp_path, "init", "-q", "-b", "main", "work")
    who = ("-c", "user.name=Tests", "-c", "user.email=tests@example.invalid")
    git(tmp_path / "work", *who, "commit", "-q", "--allow-empty", "-m", "begin")
    git(tmp_path, "clone", "-q", "--bare", "work", "origin.git")
    with serving_forge(tmp_path / "origin.git", host=HOST, tls=tls) as forge, proxying(forge.port) as proxy:
        facts = {"REPO_URL": forge.url, "PLATFORM_REVISION": "main", "DETECTOR_REVISION": "main"}
        root = gitops.copy_with(gitops.SAMPLE | facts | {"HTTPS_PROXY": proxy.url}, tmp_path / "fork")
        objects = [*gitops.render("pipelines/overlays/openshift", root).objects]
        objects += gitops.render("label-studio/overlays/openshift", root).objects
        (settings,) = (each["data"] for each in objects if names(each) == ("ConfigMap", "retrain"))
        settings |= {"GIT_SSL_CAINFO": str(authority), "FORGE": "github"}
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        for name in ("HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO", "FORGE"):
            monkeypatch.setenv(name, settings[name])
        monkeypatch.setenv("FORGE_TOKEN", forge.write_token)
        yield Company(forge, proxy, git(tmp_path / "work", "rev-parse", "HEAD"), objects, settings)


def names(obj: gitops.Manifest) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def test_the_forge_answers_when_it_is_behind_a_proxy(company: Company) -> None:
    forge = forge_of(company.forge.url)
    assert forge
    forge.set_status(company.head, "success", "tried", "flywheel/test")
    assert company.head in company.forge.statuses
    assert head_of(company.forge.url, "main") == company.head
    assert set(company.proxy.asked) == {f"{HOST}:443"}


@pytest.mark.parametrize(
    ("missing", "names_it"), [("GIT_SSL_CAINFO", "GIT_SSL_CAINFO"), ("HTTPS_PROXY", "HTTPS_PROXY")]
)
def test_the_setting_is_named_when_it_is_missing(
    company: Company, missing: str, names_it: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(missing)
    forge = forge_of(company.forge.url)
    assert forge
    with pytest.raises(GitError, match=names_it):
        forge.set_status(company.head, "success", "tried", "flywheel/test")
    with pytest.raises(GitError, match=r"ls-remote: fatal: unable to access"):
        head_of(company.forge.url, "main")


@pytest.mark.parametrize(("kind", "name"), [("StepAction", "clone"), ("CronJob", "labels-pull")])
def test_pods_clone_through_the_proxy(company: Company, kind: str, name: str, tmp_path: Path) -> None:
    (found,) = (each for each in company.objects if names(each) == (kind, name))
    if kind == "CronJob":
        script = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"][0]["args"][0]
    else:
        script = found["spec"]["script"]
    home = tmp_path / "source"
    home.mkdir()
    own = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "REVISION": company.head}
    environment = company.settings | own | {"READ_TOKEN": company.forge.write_token, "GIT_TERMINAL_PROMPT": "0"}
    subprocess.run(["sh", "-euc", script], cwd=home, env=environment, check=True, capture_output=True, timeout=60)
    assert git(home / "flywheel", "rev-parse", "HEAD") == company.head
    assert set(company.proxy.asked) == {f"{HOST}:443"}


def ask_store() -> None:
    connect(Endpoint(STORE, "key", "secret", None, "us-east-1")).bucket_exists("bucket")


def ask_dvc() -> None:
    """DVC's remote is asked by botocore, which takes its proxies from here."""
    if proxies := get_environ_proxies(STORE):
        httpx.get("http://minio.flywheel-minio.svc/", proxy=proxies["https"])


def ask_label_studio() -> None:
    httpx.get(LABEL_STUDIO)


def ask_argocd() -> None:
    url = "https://argocd-server.argocd.svc/api/webhook"
    settings = {"ARGOCD_WEBHOOK_URL": url, "ARGOCD_WEBHOOK_SECRET": "s"}
    send_push("https://git.example.com/a/b", "main", "0" * 40, [], settings)


@pytest.mark.parametrize("ask", [ask_store, ask_dvc, ask_label_studio, ask_argocd])
@pytest.mark.parametrize("is_listed", [True, False])
def test_what_is_inside_the_cluster_never_sees_the_proxy(
    company: Company, ask: Callable[[], Any], is_listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without the names in NO_PROXY it would."""
    connect.cache_clear()
    pool_of.cache_clear()
    monkeypatch.setenv("HTTP_PROXY", company.proxy.url)
    if not is_listed:
        monkeypatch.delenv("NO_PROXY")
    with suppress(Exception):  # nobody answers to these names here
        ask()
    assert bool(company.proxy.asked) is not is_listed


def test_doctor_says_which_way_is_taken(company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path / "work", "remote", "add", "origin", company.forge.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", STORE)
    address = company.proxy.url
    assert [each for each in doctor._way_out(tmp_path / "work")] == [
        (f"Git at {HOST} is reached through the proxy {address}", ""),
        ("the store at minio.flywheel-minio.svc is reached without a proxy", ""),
        (f"the forge is trusted by 1 authorities of {company.settings['GIT_SSL_CAINFO']}", ""),
    ]
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:password@127.0.0.1:{free_port()}")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "gone.crt"))
    found = list(doctor._way_out(tmp_path / "work"))
    assert [bool(each.remedy) for each in found] == [False, False, True, True]
    assert "password" not in str(found)
