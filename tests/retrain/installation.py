"""A fork of the project, installed on one machine: its repository on a server, a store, the rendered pipeline."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from tests.cluster.places import BIN
from tests.projects import set_params
from tests.retrain.forge import Forge, serving_forge, signed
from tests.retrain.kubernetes import NAMESPACE, Api, serving_api
from tests.retrain.tekton import Controller, Object, State
from tests.s3 import S3

WEBHOOK_SECRET = "what GitHub and we know"
FACTS = {
    **{"PLATFORM": "openshift", "PLATFORM_REVISION": "main", "DETECTOR_REVISION": "main", "GPU": "autoscaled"},
    **{"APPS_DOMAIN": "apps.example.invalid", "STORAGE_CLASS": "standard"},
    **{"INGRESS_NAMESPACE": "openshift-ingress", "MONITORING_NAMESPACE": "openshift-user-workload-monitoring"},
    **{"INGRESS_CLASS": "unused", "CLUSTER_ISSUER": "unused"},
}


def tekton_program() -> Path:
    """Return Tekton's code as a program, which `make tekton` builds; skip without it, but in CI fail."""
    program = BIN / "tekton"
    if program.is_file():
        return program
    reason = f"{program} is missing; `make tekton` builds it (needs Go)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def set_facts(project: Path, facts: dict[str, str]) -> None:
    """Put facts into cluster.env, as a platform engineer does."""
    file = project / "gitops/cluster/cluster.env"
    lines = file.read_text(encoding="utf-8").splitlines()
    known = {line.partition("=")[0] for line in lines}
    assert facts.keys() <= known, facts.keys() - known
    lines = [f"{key}={facts[key]}" if (key := line.partition("=")[0]) in facts else line for line in lines]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def render(folder: Path) -> list[Object]:
    """Return what kustomize makes of a folder."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@dataclass
class Listener:
    """Tekton Triggers' own sink with the rendered EventListener, on loopback."""

    port: int
    output: IO[str]

    def deliver(self, payload: dict[str, Any] | bytes, **headers: str | None) -> list[Object]:
        """Send a webhook as GitHub does and return the PipelineRuns that came of it.

        A header can be replaced, or left out with None.
        """
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent: dict[str, str | None] = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-Hub-Signature-256": signed(body, WEBHOOK_SECRET),
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/", body, {name: value for name, value in sent.items() if value is not None}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 202
        except urllib.error.HTTPError as error:
            assert error.code < 500, error.read()
        created: list[Object] = json.loads(self.output.readline())["created"]
        return created


@contextmanager
def listening(rendered: list[Object], folder: Path) -> Iterator[Listener]:
    """Give a listener for rendered objects."""
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": {"secret": WEBHOOK_SECRET}}
    secret["metadata"] = {"name": "webhook", "namespace": NAMESPACE}
    file = folder / "rendered.yaml"
    file.write_text(yaml.safe_dump_all([*rendered, secret]), encoding="utf-8")
    with (folder / "listener.log").open("wb") as log:
        process = subprocess.Popen(
            [str(tekton_program()), "listen", str(file)], stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout
        try:
            yield Listener(json.loads(process.stdout.readline())["port"], process.stdout)
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


@dataclass
class Installation:
    """What stands on the machine; `checkout` is a developer's clone, `environment` that of his shell."""

    folder: Path
    checkout: Path
    forge: Forge
    s3: S3
    bucket: dict[str, str]
    rendered: list[Object]
    api: Api
    controller: Controller
    listener: Listener
    environment: dict[str, str]

    def shell(self, line: str) -> str:
        """Run a line as a developer does, in the clone; return what it printed."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.checkout, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def git(self, *arguments: str) -> str:
        """Run Git in the developer's clone."""
        return self.shell(shlex.join(["git", *arguments]))

    def commit(self, message: str, changes: dict[str, Any] | None = None) -> str:
        """Pull, change params.yaml, commit and push as a data scientist does; return the commit."""
        self.git("pull", "--quiet", "--rebase", "--autostash")
        if changes is not None:
            set_params(self.checkout, changes)
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", message)
        self.git("push", "--quiet")
        return self.git("rev-parse", "HEAD")

    def push_event(self, commit: str, before: str | None = None) -> list[Object]:
        """Deliver the webhook of a push; return the PipelineRuns, as the API has them."""
        before = before or self.forge.git("rev-parse", f"{commit}^")
        made = self.listener.deliver(self.forge.payload(before, commit))
        return [self.api.create("pipelineruns", run) for run in made]

    def retrain(self, commit: str, **params: str) -> tuple[str, dict[str, State]]:
        """Deliver the webhook of a commit and run what comes of it to the end."""
        (run,) = self.push_event(commit)
        for each in run["spec"]["params"]:
            each["value"] = params.get(each["name"].replace("-", "_"), each["value"])
        return run["metadata"]["name"], self.controller.run(run)

    def log(self, run: str, task: str, attempt: int = 0) -> str:
        """Return what a Task printed."""
        return (self.controller.folder / run / f"{task}-{attempt}" / "log").read_text(encoding="utf-8")

    def head(self) -> str:
        """Return the commit that main is at."""
        return self.forge.git("rev-parse", "main")

    def file(self, path: str, commit: str = "main") -> str:
        """Return a file of a commit, or an empty text."""
        listed = self.forge.git("ls-tree", "--name-only", commit, path)
        return self.forge.git("show", f"{commit}:{path}") if listed else ""

    def changed(self, commit: str = "main") -> list[str]:
        """Return the files that a commit changes."""
        return self.forge.git("show", "--name-only", "--format=", commit).splitlines()

    def status(self, commit: str) -> dict[str, str]:
        """Return what a commit's newest status says."""
        return self.forge.statuses[commit][-1]

    def pin(self, environment: str = "dev") -> dict[str, str]:
        """Return what an environment's model.env on main says."""
        text = self.file(f"gitops/serving/overlays/{environment}/model.env")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@contextmanager
def installed(
    project: Path, s3: S3, bucket: dict[str, str], publisher: dict[str, str], folder: Path, environment: dict[str, str]
) -> Iterator[Installation]:
    """Give an installation of a project, or the one that was in the folder before, at other addresses.

    Args:
        project: whose work tree is as it is to be pushed first.
        s3: the store's server.
        bucket: environment that names the store, with the keys of its user `runner`.
        publisher: the keys of its user `publisher`.
        folder: of the repository and everything else.
        environment: of a user's shell.
    """
    with ExitStack() as stack:
        bare = folder / "flywheel.git"
        if not bare.is_dir():
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
        forge = stack.enter_context(serving_forge(bare))
        checkout = folder / "checkout"
        if not checkout.is_dir():
            shutil.copytree(project, checkout, symlinks=True)
        facts = FACTS | {"REPO_URL": forge.url, "STORE_URI": bucket["STORE_URI"], "STORE_ENDPOINT": s3.url}
        set_facts(checkout, facts)
        rendered = render(checkout / "gitops/pipelines/overlays/openshift")
        for each in rendered:
            if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "store":
                each["data"]["CA_BUNDLE"] = ""  # this MinIO speaks http
                each["data"].pop("AWS_CA_BUNDLE", None)
        api, port = stack.enter_context(serving_api(rendered, folder / "api"))
        keys = {key: bucket[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        secrets = {
            "store": keys,
            "store-publisher": publisher,
            "git": {"token": forge.write_token, "read-token": forge.read_token},
        }
        controller = Controller(rendered, api, port, secrets, folder / "runs")
        listener = stack.enter_context(listening(rendered, folder))
        shell = environment | bucket | _rights(forge, api, port, folder / "kubeconfig")
        made = Installation(folder, checkout, forge, s3, bucket, rendered, api, controller, listener, shell)
        made.git("branch", "--quiet", "--force", "-M", "main")
        made.git("remote", "set-url" if made.git("remote") else "add", "origin", forge.url)
        if forge.git("branch", "--list", "main"):
            made.git("pull", "--quiet", "--rebase", "--autostash")
        made.git("commit", "--quiet", "--all", "--message", "This cluster's facts")
        made.git("push", "--quiet", "--set-upstream", "origin", "main")
        yield made


def _rights(forge: Forge, api: Api, port: int, kubeconfig: Path) -> dict[str, str]:
    """Return what a developer's shell has: a name and a token for Git, a login to the cluster."""
    account = api.account("starter")
    entry = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(account / "ca.crt")}
    config = {
        "clusters": [{"name": "here", "cluster": entry}],
        "users": [{"name": "somebody", "user": {"tokenFile": str(account / "token")}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "somebody"}}],
        "current-context": "here",
    }
    kubeconfig.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}), encoding="utf-8")
    return {
        "KUBECONFIG": str(kubeconfig),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Bearer {forge.write_token}",
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "somebody"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "somebody@example.invalid"),
    }
