"""A platform engineer's desk: a clone of the fork, kubectl, and the commands that gitops/README.md tells to type."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from runner.cluster import facts as cluster_env
from runner.cluster.tunnel import opened, tunnel
from tests.cluster import gitea
from tests.cluster.images import reference
from tests.cluster.places import BIN, FORGE_IP, KUBECONFIG
from tests.conftest import PROJECT
from tests.support.projects import copy_project, set_params

Object = dict[str, Any]
ARGO_CD = "argocd"
MINIO = "minio.flywheel-minio.svc"
DROPPED_VARIABLES = ("AWS_", "STORE_", "GIT_CONFIG", "MAKE", "MFLAGS", "ARGS")  # make exports its own, ARGS too
IMAGES = {
    **{name: f"flywheel/{name}" for name in ("flywheel-runner", "flywheel-serving", "flywheel-minio")},
    **{name: f"cluster/{name}" for name in ("label-studio", "postgresql")},
}


def until(is_so: Callable[[], object], seconds: float, what: str, every: float = 0.5) -> Any:
    """Return what a question returns once that is true; fail after so many seconds, with what it last said."""
    end = time.monotonic() + seconds
    while not (answer := is_so()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(every)
    return answer


def kubectl(*arguments: str, stdin: str | None = None, fails: bool = False) -> str:
    """Run kubectl as the administrator; return what it prints, also of one that may fail."""
    command = [str(BIN / "kubectl"), *arguments]
    settings = os.environ | {"KUBECONFIG": str(KUBECONFIG)}
    done = subprocess.run(command, env=settings, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or fails, f"kubectl {shlex.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def get(*arguments: str) -> Any:
    """Return what kubectl get says, None where there is no such object."""
    said = kubectl("get", *arguments, "--output=json", "--ignore-not-found")
    return json.loads(said) if said else None


def items(*arguments: str) -> list[Object]:
    found = get(*arguments)
    return list(found["items"]) if found else []


def applications() -> dict[str, str]:
    """Return every Application with its sync status, its health and why not."""
    found = {}
    for each in items("applications", f"--namespace={ARGO_CD}"):
        status = each.get("status", {})
        said = f"{status.get('sync', {}).get('status', 'Unknown')} {status.get('health', {}).get('status', 'Unknown')}"
        messages = [condition["message"] for condition in status.get("conditions", [])]
        messages += [status.get("operationState", {}).get("message", "")] if "Synced Healthy" not in said else []
        found[each["metadata"]["name"]] = " ".join([said, *messages]).strip()
    return found


def refresh() -> None:
    """Let Argo CD look at Git now, as gitops/README.md says of one Application: nobody tells it of a person's push."""
    annotation = "argocd.argoproj.io/refresh=hard"
    kubectl("annotate", "application", "--all", f"--namespace={ARGO_CD}", "--overwrite", annotation)


@dataclass
class Desk:
    """The clone of a fork, and the forge that it is on."""

    clone: Path
    forge: gitea.Gitea

    def shell(self, line: str, *, fails: bool = False, environment: Mapping[str, str] | None = None) -> str:
        """Run a line in the clone as its owner does; return all that it prints."""
        token = b64encode(f"somebody:{self.forge.person}".encode()).decode()
        settings = {
            **{key: value for key, value in os.environ.items() if not key.startswith(DROPPED_VARIABLES)},
            **{"KUBECONFIG": str(KUBECONFIG), "PATH": f"{Path(sys.executable).parent}:{BIN}:{os.environ['PATH']}"},
            **{"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader"},
            **{"GIT_CONFIG_VALUE_0": f"Authorization: Basic {token}", "DVC_NO_ANALYTICS": "1"},
            **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "somebody"),
            **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "somebody@example.com"),
            **(environment or {}),
        }
        command = ["bash", "-euo", "pipefail", "-c", line]
        done = subprocess.run(command, cwd=self.clone, env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or fails, f"{line}\n{done.stdout}{done.stderr}"
        return (done.stdout + done.stderr).strip()

    def type(self, line: str, **environment: str) -> str:
        """Run a line that gitops/README.md tells to type, and no other; return all that it prints."""
        readme = " ".join((PROJECT / "gitops/README.md").read_text(encoding="utf-8").split())
        said = (line, line.replace("kubernetes", "openshift"))  # the page shows one platform's
        assert any(each in readme for each in said), f"gitops/README.md does not say: {line}"
        return self.shell(line, environment=environment)

    def push(self, message: str, *branches: str) -> str:
        """Commit what changed and push it; return the commit."""
        self.shell(f"git add --all && git commit --quiet --allow-empty --message {shlex.quote(message)}")
        for branch in branches or ("main",):
            self.shell(f"git push --quiet origin HEAD:{branch}")
        return self.shell("git rev-parse HEAD")

    def pull(self) -> str:
        """Take what the bot committed; return the commit."""
        return self.shell("git pull --quiet --rebase origin main && git rev-parse HEAD")

    def retrain(self, message: str, **train: Any) -> str:
        """Change how a training runs, and its seed, as a data scientist does; return the commit that was pushed."""
        self.pull()
        seed = yaml.safe_load((self.clone / "params.yaml").read_text(encoding="utf-8"))["seed"]
        set_params(self.clone, {"train": train, "seed": seed + 1})
        return self.push(message)


def fork(folder: Path, forge: gitea.Gitea, params: dict[str, Any], commit: str = "") -> Desk:
    """Fork this repository, and clone the fork: gitops/README.md, the first day, step 1.

    Args:
        folder: gets the clone.
        forge: an empty one.
        params: of params.yaml, which make a training quick.
        commit: of this repository, an earlier one; its history is the fork's. Empty: the files as they are here.
    """
    clone = folder / "flyingthings"
    desk = Desk(clone, forge)
    if commit:
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", "--origin=upstream", PROJECT, clone], check=True)
        desk.shell(f"git checkout --quiet -B main {commit}")
    else:
        copy_project(PROJECT, clone, dict(os.environ))
        desk.shell("git branch --quiet -M main")
    desk.shell(f"git remote add origin {gitea.URL}")
    (clone / ".venv").symlink_to(PROJECT / ".venv")  # `make setup` has nothing to do
    (clone / ".git/info/exclude").write_text(".venv\n")
    (clone / ".venv/.ready").touch()
    set_params(clone, params)
    return desk


def fill_in(desk: Desk) -> None:
    """Let `discover` fill in cluster.env, add what it cannot know, and push: steps 2 and 3."""
    desk.type("python -m runner discover --write")
    file = desk.clone / "gitops/cluster/cluster.env"
    by_hand = {
        "PLATFORM_REVISION": "platform",
        "APPS_DOMAIN": "apps.flywheel.test",
        "MONITORING_NAMESPACE": "monitoring",
    }
    text = file.read_text()
    for key, value in by_hand.items():
        text = text.replace(f"\n{key}=REPLACE-ME", f"\n{key}={value}")
    file.write_text(text.replace(f"GIT_CIDRS={cluster_env.OPEN}", f"GIT_CIDRS={FORGE_IP}/32"))
    desk.type("python -m runner discover --write")
    # a forge whose name tells nothing; an earlier version has no word for it, but asks for its API
    if "FORGE" in cluster_env.read(file):
        cluster_env.merge(file, {"FORGE": "gitea"})
    else:
        retrain = desk.clone / "gitops/pipelines/base/retrain.yaml"
        retrain.write_text(retrain.read_text().replace("\ndata:\n", f"\ndata:\n  GITHUB_API_URL: {gitea.API}\n"))
    desk.shell("git commit --quiet --all --message 'This cluster'")
    desk.type("git push origin main main:platform")


def set_images(desk: Desk) -> None:
    """Name the images that were built by their digests, and push: step 4."""
    for name, image in IMAGES.items():
        desk.shell(f".ci/set-image {name} registry.flywheel.test/{reference(image)}")
    desk.shell("git commit --quiet --all --message 'Its images'")
    desk.type("git push origin main main:platform")


def supply_secrets(desk: Desk) -> None:
    """Supply what people supply, and give the forge its webhook: step 6."""
    tokens = dict.fromkeys(("TOKEN", "STATUS_TOKEN", "READ_TOKEN"), desk.forge.bot)
    token, status, read = (f'--from-literal={name.lower().replace("_", "-")}="${name}"' for name in tokens)
    desk.type(f"kubectl -n flywheel-pipelines create secret generic git {token} {status} {read}", **tokens)
    desk.type(f"kubectl -n flywheel-labels create secret generic git {token} {read}", **tokens)
    literal = '--from-literal=secret="$(openssl rand -hex 32)"'
    desk.type(f"kubectl -n flywheel-pipelines create secret generic webhook {literal}")
    secret = b64decode(get("secret", "webhook", "--namespace=flywheel-pipelines")["data"]["secret"]).decode()
    desk.forge.hook("https://retrain.apps.flywheel.test", secret)


def values_of(desk: Desk) -> dict[str, str]:
    return cluster_env.read(desk.clone / cluster_env.PATH)


def versions(desk: Desk, name: str = "flyingthings") -> list[int]:
    """Return the versions of a model that the store has, as README's tunnel shows them."""
    with opened(values_of(desk), "store") as store:
        keys = [key for key in store.list(f"models/{name}/") if key.endswith("/manifest.json")]
    return sorted(int(key.split("/")[2]) for key in keys)


@contextmanager
def the_store() -> Iterator[dict[str, Any]]:
    """Give what a shell needs for the store, as gitops/README.md, "The store from your desk", says."""
    hosts = Path("/etc/hosts")  # of the desk
    before = hosts.read_text(encoding="utf-8")
    ca = get("secret", "minio-tls", "--namespace=flywheel-minio")["data"]["ca.crt"]
    key = get("secret", "store", "--namespace=flywheel-pipelines")["data"]
    with tunnel("flywheel-minio", "minio", 9000) as here, TemporaryDirectory() as folder:
        bundle = Path(folder, "store-ca.crt")
        bundle.write_bytes(b64decode(ca))
        hosts.write_text(f"{before}127.0.0.1 {MINIO}\n", encoding="utf-8")
        try:
            yield {
                **{"CA_BUNDLE": str(bundle), "STORE_URI": "s3://flyingthings"},
                "AWS_ENDPOINT_URL": f"https://{MINIO}:{here.rpartition(':')[2]}",
                **{name: b64decode(value).decode() for name, value in key.items()},
            }
        finally:
            hosts.write_text(before, encoding="utf-8")


def blocks(page: Path, begin: str, end: str) -> list[list[str]]:
    """Return the lines of a page's blocks of code between two words; a line to type begins with `$ `."""
    section = page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    fenced = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    indented = re.findall(r"\n\n((?: {4,}.*\n)+)", section)
    return [[line.strip() for line in block.splitlines() if line.strip()] for block in [*fenced, *indented]]


def typed(block: list[str]) -> list[str]:
    """Return what a block tells to type."""
    return [line[2:] for line in block if line.startswith("$ ")]
