"""The program that makes every generated Secret, with its Job's rights on Kubernetes' own API server."""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.apiserver import ApiServer
from tests.support.gitops import GITOPS, leaf, load_program, render
from tests.support.processes import free_port

pytestmark = pytest.mark.slow
HOME = "flywheel-minio"
PROGRAM, TABLES = GITOPS / "credentials/make_secrets.py", sorted((GITOPS / "credentials/tables").glob("*.txt"))
OBJECTS = render("credentials").objects
(CONTAINER,) = next(obj for obj in OBJECTS if obj["kind"] == "Job")["spec"]["template"]["spec"]["containers"]
SETTINGS = {each["name"]: each["value"] for each in CONTAINER["env"]}
LINES = [
    line.replace("<environment>", environment).split()
    for table in TABLES
    for line in table.read_text().splitlines()
    if line and line[0] != "#"
    for environment in (SETTINGS["ENVIRONMENTS"].split() if "<environment>" in line else [""])
]
NOT_MADE = "flywheel-pipelines/argocd-webhook"  # unless there is an Argo CD whose key it shares
ARGOCD, KEY = "/api/v1/namespaces/argocd/secrets", "webhook.github.secret"
Data = dict[str, str]
Secrets = dict[str, Data]  # by NAMESPACE/NAME


class Job:
    """A cluster to which gitops/credentials is applied."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.namespaces = sorted({obj["metadata"]["namespace"] for obj in OBJECTS})
        server.make_namespaces(*self.namespaces)
        server.apply(OBJECTS)

    def environment(self, account: str = "credentials", port: int = 0) -> dict[str, str]:
        """The environment of the program with the token of an account, against the API server or another port."""
        where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port or self.server.port)}
        return SETTINGS | where | {"SERVICE_ACCOUNT": str(self.server.write_account(HOME, account))}

    def run(self, **given: Any) -> subprocess.CompletedProcess[str]:
        """Run the program; `given` as in `environment`."""
        command = [sys.executable, str(PROGRAM), *map(str, TABLES)]
        return subprocess.run(command, env=self.environment(**given), capture_output=True, text=True, check=False)

    def found(self) -> list[dict[str, Any]]:
        return [
            each for each in self.server.items("/api/v1/secrets") if each["metadata"]["namespace"] in self.namespaces
        ]

    def secrets(self) -> Secrets:
        return {
            "{namespace}/{name}".format(**each["metadata"]): {
                key: base64.b64decode(value).decode() for key, value in each["data"].items()
            }
            for each in self.found()
        }

    def remove(self, namespace: str, name: str = "") -> None:
        self.server.ask("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{name}".rstrip("/"))


@pytest.fixture(scope="module")
def applied(api_server: ApiServer) -> Job:
    return Job(api_server)


@pytest.fixture
def job(applied: Job) -> Job:
    """With no Secret made yet."""
    for namespace in applied.namespaces:
        applied.remove(namespace)
    return applied


def test_every_secret_is_made_once_when_the_job_runs_again_and_again(job: Job) -> None:
    own = {"user": base64.b64encode(b"mine").decode()}
    job.server.ask("POST", f"/api/v1/namespaces/{HOME}/secrets", {"metadata": {"name": "minio-root"}, "data": own})
    done = job.run()
    assert (done.returncode, done.stderr) == (0, "")
    states = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert states.keys() == {name for name, *_ in LINES}
    secrets = job.secrets()
    assert secrets.pop(f"{HOME}/minio-root") == {"user": "mine"}
    assert secrets.keys() == {name for name, said in states.items() if said == "made"}
    assert states.keys() - secrets.keys() == {NOT_MADE, f"{HOME}/minio-root"}
    drawn = []
    for name, *words in (line for line in LINES if line[0] in secrets):
        if words[0] == "from":
            assert secrets[name] == secrets[words[1]]
            continue
        asked = dict(word.split("=", 1) for word in words)
        assert secrets[name].keys() == asked.keys()
        drawn += [secrets[name][key] for key, value in asked.items() if value == "?"]
        assert {key: value for key, value in asked.items() if value != "?"}.items() <= secrets[name].items()
    assert all(re.fullmatch("[0-9a-f]{40}", value) for value in drawn)
    assert len(set(drawn)) == len(drawn)
    assert not any(value in done.stdout for value in drawn)
    # Argo CD neither tracks nor prunes what has no label of its own.
    assert not any({"labels", "annotations"} & each["metadata"].keys() for each in job.found())

    before = job.found()
    again = job.run()
    assert again.returncode == 0
    assert not [line for line in again.stdout.splitlines() if line.endswith(": made")]
    assert job.found() == before

    job.remove("flywheel-dev", "store")
    assert "flywheel-dev/store: made" in job.run().stdout
    assert job.secrets()["flywheel-dev/store"] == job.secrets()[f"{HOME}/store-user-server-dev"]


@pytest.fixture
def shared(job: Job) -> Iterator[Job]:
    """With Argo CD's namespace, the rights of bootstrap there, and the key that it is to share."""
    rights = [obj for obj in leaf("bootstrap/root/overlays/kubernetes").objects if "webhook-key" in str(obj)]
    job.server.make_namespaces("argocd")
    job.server.apply(rights)
    key = {"metadata": {"name": "argocd-webhook"}, "data": {"secret": "a2V5"}}
    job.server.ask("POST", f"/api/v1/namespaces/{HOME}/secrets", key)
    yield job
    job.server.ask("DELETE", ARGOCD)


def kept_by_argocd(job: Job, **data: str) -> None:
    job.server.ask("POST", ARGOCD, {"metadata": {"name": "argocd-secret"}, "data": data})


@pytest.mark.parametrize(
    ("argocd", "ours"),
    [
        ({"admin.password": "eA==", "tls.crt": "Y2VydA=="}, {"secret": "key", "ca.crt": "cert"}),
        ({KEY: "a2V5"}, {"secret": "key"}),
        ({KEY: "b3RoZXI="}, None),
    ],
)
def test_both_have_the_key_when_argocd_had_no_other(shared: Job, argocd: Data, ours: Data | None) -> None:
    kept_by_argocd(shared, **argocd)
    done = shared.run()
    assert (done.returncode, f"{NOT_MADE}: {'made' if ours else 'not made: '}" in done.stdout) == (0, True)
    assert shared.server.ask("GET", f"{ARGOCD}/argocd-secret")["data"] == {KEY: "a2V5"} | argocd
    assert shared.secrets().get(NOT_MADE) == ours


def test_no_copy_is_made_when_somebody_changes_argocds_secret_meanwhile(
    shared: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept_by_argocd(shared, **{"tls.crt": "Y2VydA=="})
    for name, value in shared.environment().items():
        monkeypatch.setenv(name, value)
    program = load_program(PROGRAM)
    ask = program.request

    def request(path: str, *more: Any) -> Any:
        found = ask(path, *more)
        if path.startswith(ARGOCD) and not more:
            shared.server.ask("PATCH", path, {"data": {"other": "eA=="}})
        return found

    monkeypatch.setattr(program, "request", request)
    assert program.main(TABLES) == 1
    assert f"error: {NOT_MADE}: 409" in capsys.readouterr().err
    assert NOT_MADE not in shared.secrets()


@pytest.mark.parametrize(("account", "is_away", "said"), [("credentials", True, "refused"), ("someone", False, "403")])
def test_nothing_is_made_when_the_api_is_away_or_refuses(job: Job, account: str, is_away: bool, said: str) -> None:
    job.server.kubectl("create", "serviceaccount", "someone", "--namespace", HOME)
    failed = job.run(account=account, port=free_port() if is_away else 0)
    assert failed.returncode == 1
    errors = failed.stderr.splitlines()
    assert [line.split(": ")[1] for line in errors] == [name for name, *_ in LINES]
    assert all(said in line for line in errors)
    assert job.secrets() == {}


@pytest.mark.parametrize(
    ("verb", "secret", "namespace", "may"),
    [
        ("create", "", "flywheel-dev", "yes"),
        ("get", "store-user-runner", HOME, "yes"),
        ("get", "minio-root", HOME, "no"),
        ("get", "model-api", "flywheel-dev", "no"),
        ("list", "", HOME, "no"),
        ("update", "minio-root", HOME, "no"),
        ("delete", "store-user-runner", HOME, "no"),
        ("create", "", "kube-system", "no"),
    ],
)
def test_rights_end_at_making_when_asked(verb: str, secret: str, namespace: str, may: str, applied: Job) -> None:
    who, what = f"--as=system:serviceaccount:{HOME}:credentials", f"secrets/{secret}".rstrip("/")
    assert applied.server.kubectl("auth", "can-i", verb, what, "--namespace", namespace, who).stdout.strip() == may
