"""A server that behaves like the cluster's API for the few kinds a retrain asks for, with the rendered rights.

It knows its ServiceAccounts by their tokens and refuses what no Role allows them. GPUs come and go as the test says.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.retrain.forge import body_of

Object = dict[str, Any]
NAMESPACE = "flywheel-pipelines"
PATH = re.compile(
    rf"/(?:api|apis/(?P<group>[^/]+))/[^/]+/namespaces/{NAMESPACE}/(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?"
)
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}


class Api:
    """The objects of the namespace, by resource and name, and who may do what with them."""

    def __init__(self, rendered: list[Object], folder: Path) -> None:
        self.folder = folder
        self.objects: dict[tuple[str, str], Object] = {}
        self.lock = threading.RLock()
        self.tokens: dict[str, str] = {}  # token → ServiceAccount
        self.calls: list[tuple[str, str, str, str]] = []  # account, verb, resource, name
        self.gpus = 0
        self.gpu_after = 0.0  # seconds after which a Pod that asks for a GPU runs, where there is one
        kinds = {"PodTemplate": "podtemplates", "TriggerTemplate": "triggertemplates"}
        for each in rendered:
            if each["kind"] in kinds:
                self.objects[kinds[each["kind"]], each["metadata"]["name"]] = each
        self.roles = {each["metadata"]["name"]: each["rules"] for each in rendered if each["kind"] == "Role"}
        self.bindings = [each for each in rendered if each["kind"] == "RoleBinding"]

    def account(self, name: str) -> Path:
        """Return the folder that a Pod of a ServiceAccount finds its token in."""
        folder = self.folder / "accounts" / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            token = secrets.token_hex(16)
            self.tokens[token] = name
            (folder / "token").write_text(token)
            (folder / "namespace").write_text(NAMESPACE)
            (folder / "ca.crt").write_bytes((self.folder / "ca.crt").read_bytes())
        return folder

    def may(self, account: str, verb: str, group: str, resource: str, name: str) -> bool:
        """Whether a Role that is bound to the account allows it."""
        rules = [
            rule
            for binding in self.bindings
            if any(subject["name"] == account for subject in binding["subjects"])
            for rule in self.roles.get(binding["roleRef"]["name"], [])
        ]
        return any(
            verb in rule["verbs"]
            and group in rule["apiGroups"]
            and resource in rule["resources"]
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in rules
        )

    def list(self, resource: str) -> list[Object]:
        """Return the objects of a resource."""
        with self.lock:
            return [each for (kind, _), each in self.objects.items() if kind == resource]

    def create(self, resource: str, content: Object) -> Object:
        """Make an object as the API does: a name, an id, a time."""
        metadata = content["metadata"]
        with self.lock:
            metadata.setdefault("name", f"{metadata.get('generateName', '')}{secrets.token_hex(3)}")
            metadata |= {"namespace": NAMESPACE, "uid": secrets.token_hex(8), "creationTimestamp": now()}
            if (resource, metadata["name"]) in self.objects:
                raise KeyError(f"{resource} {metadata['name']!r} already exists")
            self.objects[resource, metadata["name"]] = content
            return content

    def run_gpu_pods(self) -> None:
        """Let Pods that ask for a GPU run when there is one, as the scheduler and the autoscaler do."""
        with self.lock:
            pods = self.list("pods")
            free = self.gpus - sum(_wants_gpu(pod) and _phase(pod) == "Running" for pod in pods)
            for pod in pods:
                made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
                if _phase(pod) != "Pending" or not _wants_gpu(pod):
                    continue
                if free > 0 and time.time() - made >= self.gpu_after:
                    pod["status"] = {"phase": "Running"}
                    pod["spec"]["nodeName"] = "gpu-node"
                    free -= 1
                else:
                    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
                    condition = {"type": "PodScheduled", "status": "False", "message": message}
                    pod["status"] = {"phase": "Pending", "conditions": [condition]}


def now() -> str:
    """Return the time as the API writes it, and finer, so that two objects of a second have an order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _wants_gpu(pod: Object) -> bool:
    return any("nvidia.com/gpu" in each.get("resources", {}).get("limits", {}) for each in pod["spec"]["containers"])


@contextmanager
def serving_api(rendered: list[Object], folder: Path) -> Iterator[tuple[Api, int]]:
    """Give the API and its port, behind a certificate of its own."""
    folder.mkdir(parents=True)
    key, certificate = folder / "key", folder / "ca.crt"
    subject = ("-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-keyout", str(key), "-out", str(certificate), *subject),
        ],
        check=True,
        capture_output=True,
    )
    api = Api(rendered, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api, server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, code: int, content: Object) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _refuse(self, code: int, message: str) -> None:
            self._answer(code, {"kind": "Status", "status": "Failure", "code": code, "message": message})

        def _handle(self) -> None:
            address = urlsplit(self.path)
            body = body_of(self)  # kubectl sends chunks
            account = api.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
            match = PATH.fullmatch(address.path)
            if account is None:
                return self._refuse(401, "Unauthorized")
            if match is None:
                return self._refuse(404, "the server could not find the requested resource")
            group, resource, name = match["group"] or "", match["resource"], match["name"] or ""
            verb = "list" if self.command == "GET" and not name else VERBS[self.command]
            api.calls.append((account, verb, resource, name))
            if not api.may(account, verb, group, resource, name):
                return self._refuse(403, f"{resource} is forbidden: {account} cannot {verb} {name or resource}")
            api.run_gpu_pods()
            with api.lock:
                if verb == "list":
                    query = {key: values[0] for key, values in parse_qs(address.query).items()}
                    return self._answer(200, {"items": [each for each in api.list(resource) if _matches(each, query)]})
                if verb == "create":
                    try:
                        return self._answer(201, api.create(resource, json.loads(body)))
                    except KeyError as error:
                        return self._refuse(409, str(error))
                if (found := api.objects.get((resource, name))) is None:
                    return self._refuse(404, f'{resource} "{name}" not found')
                if verb == "patch":
                    _merge(found, json.loads(body))
                if verb == "delete":
                    del api.objects[resource, name]
                return self._answer(200, found)

        do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    return Handler


def _matches(each: Object, query: dict[str, str]) -> bool:
    labels = each["metadata"].get("labels", {})
    wanted = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair]
    phase = query.get("fieldSelector", "").removeprefix("status.phase=")
    return all(labels.get(key) == value for key, value in wanted) and (not phase or _phase(each) == phase)


def _merge(into: Object, content: Object) -> None:
    """Merge as RFC 7386 says."""
    for key, value in content.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
