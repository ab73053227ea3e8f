"""Checks of `doctor` on a fork's cluster: Applications, Secrets, webhook, tokens, Label Studio, store and images.

Read-only; what the user may not read is reported and skipped.
"""

import hashlib
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.cluster import facts as cluster_env
from runner.cluster import kubectl
from runner.cluster.api import PIPELINES
from runner.cluster.bootstrap import USER_SECRETS
from runner.cluster.container_images import PATH as IMAGES
from runner.cluster.container_images import unbuilt_images
from runner.cluster.facts import GIT_CIDRS, OWN_CA, PROXY_CIDRS
from runner.cluster.forge_checks import deliveries, tokens
from runner.cluster.git_addresses import is_open
from runner.cluster.label_jobs import LABELS, message_of_last_pod
from runner.cluster.tunnel import opened
from runner.errors import ClusterError, ConfigError, RunnerError
from runner.forge.address import same_repository
from runner.forge.git import shown
from runner.pipeline.doctor import Diagnosis
from runner.release.pin import environments, read_pin
from runner.release.signing import key_id
from runner.store.signatures import FOLDER as SIGNERS
from runner.store.signatures import signatures_of
from serving.storage.endpoint import tls_context

Values = dict[str, str]
#: Users of the store: namespace and name of the Secret with their key, and a prefix that each must be able to list.
USERS = [
    (PIPELINES, "store", "datasets/"),
    (PIPELINES, "store-trainer", "dvc/"),
    (PIPELINES, "store-publisher", "models/"),
    (LABELS, "store", "datasets/"),
    (LABELS, "store-labels-pull", "datasets/"),
]
STORE = "flywheel-minio"
INTERCEPTORS = ("tekton-pipelines", "openshift-pipelines")
BY_HAND = "flywheel-serving-prod"  # synced manually
_TIMEOUT_S = 10


def check_cluster(project: Path) -> Iterator[Diagnosis]:
    """Yield the findings about the cluster that the user is logged in to; a single one when there is no cluster."""
    try:
        if cluster_env.read(project / cluster_env.PATH).get("REPO_URL") == cluster_env.UNSET:
            yield Diagnosis(
                f"no cluster is examined, since {cluster_env.PATH} names none; gitops/README.md sets one up"
            )
            return
        values = cluster_env.check(project / cluster_env.PATH, complete=True)
        kubectl.get("/version")
        is_there = kubectl.get(f"/api/v1/namespaces/{PIPELINES}") is not None
    except (ConfigError, ClusterError) as error:
        if (project / cluster_env.PATH).is_file():
            first = " ".join(line.strip() for line in str(error).splitlines()[:2])  # of several faults
            yield Diagnosis(f"the cluster is not examined: {first}")
        return
    if not is_there:
        yield Diagnosis(
            f"the cluster has no namespace {PIPELINES}",
            f"log in to the fork's cluster, or `make bootstrap PLATFORM={values['PLATFORM']}`",
        )
        return
    for name, check in CHECKS.items():
        try:
            yield from check(project, values)
        except RunnerError as error:
            yield Diagnosis(f"{name} could not be examined", str(error))


def _applications(project: Path, values: Values) -> Iterator[Diagnosis]:
    """Yield the state of each Application of the repository, with the reason where it is not synced or not healthy."""
    ours = [
        each
        for each in kubectl.items("/apis/argoproj.io/v1alpha1/applications")
        if same_repository(str((each["spec"].get("source") or {}).get("repoURL", "")), values["REPO_URL"])
    ]
    if not ours:
        yield Diagnosis("Argo CD has no Application of this repository", "`make bootstrap` makes them")
    for each in sorted(ours, key=lambda one: str(one["metadata"]["name"])):
        name, namespace, status = str(each["metadata"]["name"]), each["metadata"]["namespace"], each.get("status") or {}
        sync, health = ((status.get(key) or {}).get("status", "Unknown") for key in ("sync", "health"))
        state = f"Application {name}: {sync}, {health}"
        if name.endswith(BY_HAND) and sync == "OutOfSync":
            yield Diagnosis(f"{state}; prod is synced by hand")
        elif (sync, health) == ("Synced", "Healthy"):
            yield Diagnosis(state)
        else:
            yield Diagnosis(f"{state}{_reasons(status)}", f"kubectl -n {namespace} describe application {name}")


def _reasons(status: Mapping[str, Any]) -> str:
    """Return Argo CD's messages about an Application and its unhealthy objects."""
    operation = status.get("operationState") or {}
    messages = [each.get("message", "") for each in status.get("conditions") or []]
    messages += [operation.get("message", "")] if operation.get("phase") != "Succeeded" else []
    for each in status.get("resources") or []:
        if message := (each.get("health") or {}).get("message"):
            messages.append(f"{each['kind']} {each['name']}: {message}")
    lines = list(dict.fromkeys(" ".join(text.split())[:300] for text in messages if text))
    return f": {'; '.join(lines[:3])}" if lines else ""


def _secrets(project: Path, values: Values) -> Iterator[Diagnosis]:
    """Yield whether each Secret that people supply has its key."""
    pulls = kubectl.get(f"/apis/batch/v1/namespaces/{LABELS}/cronjobs/labels-pull")
    for namespace, name, key in [*USER_SECRETS, *([(LABELS, "git", "token")] if pulls else [])]:
        if kubectl.secret(namespace, name).get(key, "").strip():
            yield Diagnosis(f"Secret {name} in {namespace}")
        else:
            yield Diagnosis(f"Secret {name} in {namespace} has no {key}", "gitops/README.md, Secrets, has the command")
    ours = kubectl.secret(PIPELINES, "git")
    if not ours.get("status-token"):
        yield Diagnosis(f"Secret git in {PIPELINES} has no status-token: commits get no status")
    if not ours.get("read-token"):
        yield Diagnosis(f"Secret git in {PIPELINES} has no read-token: a private repository cannot be cloned")
    bots = [ours.get("token"), kubectl.secret(LABELS, "git").get("token")]
    if bots[0] and bots[0] == bots[1]:
        yield Diagnosis(
            "the bot that pins and the bot of labels-pull have one token, so the branch lets both pass",
            f"give {LABELS} the token of a bot of its own, which the protection of the branch does not exempt",
        )
    if kubectl.secret(PIPELINES, "argocd-webhook").get("secret"):
        yield Diagnosis("pin tells Argo CD of its commits")
    else:
        yield Diagnosis(
            "pin does not tell Argo CD of its commits: pins are served after its next poll",
            "sync the Application credentials; the log of its Job says why it made no Secret argocd-webhook",
        )


def _signatures(project: Path, values: Values) -> Iterator[Diagnosis]:
    """Yield whether versions are signed, by a key whose public half stands in Git."""
    signatures, page = signatures_of(project), "docs/signatures.md makes a key"
    private = kubectl.secret(PIPELINES, "signing").get("private.pem", "")
    said = f"SIGNATURES is {signatures.mode}"
    if not private:
        what = f"Secret signing in {PIPELINES} has no private.pem: versions are published without a signature; {said}"
        yield Diagnosis(what, page if signatures.mode == "require" else "")
    elif (name := key_id(private.encode(), f"Secret signing in {PIPELINES}")) in signatures.signers:
        yield Diagnosis(f"versions are signed by key {name[:12]}; {said}")
    else:
        remedy = f"append the key's public half to {SIGNERS / 'signers.pem'}, push, and fetch it here; {page}"
        yield Diagnosis(f"versions are signed by key {name[:12]}, which is not among the signers in Git", remedy)


def _webhook(project: Path, values: Values) -> Iterator[Diagnosis]:
    """Yield whether pushes arrive, by the forge's webhooks and the log of Tekton's interceptors.

    Tekton answers 202 to a wrong signature or token too; only its interceptors, shared by all listeners of the
    cluster, log it.
    """
    yield from deliveries(values, kubectl.secret(PIPELINES, "git").get("token", ""))
    for namespace in INTERCEPTORS:
        source = ("--namespace", namespace, "deployment/tekton-triggers-core-interceptors")
        done = kubectl.run("logs", *source, "--since=24h", "--tail=2000")
        if done.returncode:
            continue
        told = "signature|Invalid X-GitLab-Token|Continue:true"
        verdicts = [line for line in done.stdout.splitlines() if re.search(told, line)]
        wrong = [line for line in verdicts if "Continue:true" not in line]
        if not wrong:
            yield Diagnosis("no delivery of the last day had a wrong signature, as Tekton's interceptors log it")
        elif verdicts[-1] == wrong[-1]:
            yield Diagnosis(
                f"the last delivery to Tekton's interceptors had a wrong signature or token ({len(wrong)} in a day)",
                f"the webhook's secret at the forge must be that of Secret webhook: kubectl -n {PIPELINES} get secret "
                "webhook --template '{{.data.secret | base64decode}}'",
            )
        else:
            yield Diagnosis(f"{len(wrong)} deliveries of the last day had a wrong signature, but not the last one")
        return
    yield Diagnosis("signatures of deliveries are not examined: the log of Tekton's interceptors is not readable")


def _label_studio(project: Path, values: Values) -> Iterator[Diagnosis]:
    deployment = kubectl.get(f"/apis/apps/v1/namespaces/{LABELS}/deployments/label-studio") or {}
    if not (deployment.get("status") or {}).get("availableReplicas"):
        yield Diagnosis("Label Studio does not run", f"kubectl -n {LABELS} get pods; look at the log of label-studio")
        return
    if (message := message_of_last_pod()) is not None:
        remedy = "correct it in Label Studio or in params.yaml of the branch; the CronJob tries again within the hour"
        yield Diagnosis(f"the last `labels setup` in the cluster failed: {message or 'its pods tell why'}", remedy)
    url = f"https://label-studio.{values['APPS_DOMAIN']}/health"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S, context=tls_context()):
            yield Diagnosis(f"Label Studio answers at {url}")
    except (OSError, ValueError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            remedy = "set CA_BUNDLE to a file with the authority of its certificate"
        else:
            remedy = f"look at the Route or Ingress in {LABELS}, and at the DNS of {values['APPS_DOMAIN']}"
        yield Diagnosis(f"Label Studio runs, but {url} does not answer here: {error}", remedy)


def _store(project: Path, values: Values) -> Iterator[Diagnosis]:
    """Yield the store's answer to each of its users, and to each environment's server that asks for its pin."""
    for namespace, name, prefix in USERS:
        user = kubectl.secret(namespace, name).get("AWS_ACCESS_KEY_ID", "?")
        try:
            with opened(values, name, namespace) as store:
                store.bucket.retry_waits_s = ()
                count = len(store.list(prefix))
        except RunnerError as error:
            yield Diagnosis(f"the store, as user {user} of Secret {name} in {namespace}", str(error))
        else:
            yield Diagnosis(f"the store answers user {user} ({namespace}): {count} objects in {prefix}")
    for environment in environments(project):
        if (pin := read_pin(project, environment)) is None:
            continue
        what = f"the pin of {environment}, {pin.uri}, as its server reads it"
        try:
            with opened(values, "store", f"flywheel-{environment}") as store:
                store.bucket.retry_waits_s = ()
                sha256 = hashlib.sha256(store.read(pin.uri.removeprefix(f"{store.uri}/"))).hexdigest()
        except RunnerError as error:
            yield Diagnosis(what, str(error))
        else:
            remedy = "`python -m runner store verify`, then promote another version"
            yield Diagnosis(what) if sha256 == pin.sha256 else Diagnosis(f"{what}: its sha256 is {sha256}", remedy)


def _egress(project: Path, values: Values) -> Iterator[Diagnosis]:
    """Yield which NetworkPolicies of ours let pods reach any address, as the cluster has them."""
    policies = kubectl.items("/apis/networking.k8s.io/v1/networkpolicies", labels="app.kubernetes.io/part-of=flywheel")
    for policy in policies:
        name, namespace = str(policy["metadata"]["name"]), str(policy["metadata"]["namespace"])
        ports = [
            str(port.get("port"))
            for rule in policy["spec"].get("egress") or ()
            if not rule.get("to") or any(is_open(to["ipBlock"]["cidr"]) for to in rule["to"] if "ipBlock" in to)
            for port in rule.get("ports") or [{"port": "any"}]
        ]
        if ports:
            pods = policy["spec"]["podSelector"].get("matchLabels")
            who = " ".join(f"{key}={value}" for key, value in pods.items()) if pods else "every pod"
            what = f"egress is open in {namespace}: {name} lets {who} reach any address on port {', '.join(ports)}"
            remedy = f"name the addresses: {GIT_CIDRS}, {PROXY_CIDRS} in cluster.env" if name == "to-git" else ""
            yield Diagnosis(what, remedy)


def _way_out(project: Path, values: Values) -> Iterator[Diagnosis]:
    """Yield the proxy and the authorities of pods that reach the forge, and what the cluster has otherwise."""
    of_cluster = (kubectl.get("/apis/config.openshift.io/v1/proxies/cluster") or {}).get("spec") or {}
    proxy, theirs = values.get("HTTPS_PROXY", ""), shown(str(of_cluster.get("httpsProxy") or ""))
    if theirs and not proxy:
        remedy = "`python -m runner discover --write`, or HTTPS_PROXY in cluster.env; docs/air-gap.md"
        yield Diagnosis(f"the cluster reaches the internet through {theirs}, but cluster.env names no proxy", remedy)
    else:
        yield Diagnosis(f"pods reach the forge {f'through the proxy {proxy}' if proxy else 'without a proxy'}")
    if values.get("GIT_SSL_CAINFO") != OWN_CA:
        return
    for namespace in (PIPELINES, LABELS, STORE):
        found = kubectl.get(f"/api/v1/namespaces/{namespace}/configmaps/trusted-ca") or {}
        authorities = str((found.get("data") or {}).get("ca-bundle.crt", "")).count("BEGIN CERTIFICATE")
        remedy = f"kubectl -n {namespace} create configmap trusted-ca --from-file=ca-bundle.crt; docs/air-gap.md"
        what = f"ConfigMap trusted-ca in {namespace} has {authorities} authorities"
        yield Diagnosis(what, "" if authorities else remedy)


def _images(project: Path, values: Values) -> Iterator[Diagnosis]:
    remedy = "once they are built: `python -m runner images --write`, commit, push"
    unbuilt = ", ".join(unbuilt_images(project / IMAGES))
    yield Diagnosis(f"images not built: {unbuilt}", remedy) if unbuilt else Diagnosis("every image has a digest")


CHECKS: dict[str, Callable[[Path, Values], Iterator[Diagnosis]]] = {
    "the Applications of Argo CD": _applications,
    "the Secrets": _secrets,
    "the signatures": _signatures,
    "the webhook": _webhook,
    "the tokens": lambda project, values: tokens(project, values, kubectl.secret(PIPELINES, "git")),
    "Label Studio": _label_studio,
    "the store": _store,
    "what pods may reach": _egress,
    "the way out": _way_out,
    "the images": _images,
}
