"""The API server as far as Secrets go, on loopback: GET and POST, each allowed only where a rendered Role says so."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.gitops import Manifest
from tests.pods import Data

TOKEN = "of-the-service-account"


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Make a certificate that signs itself; return the paths of it and of its key."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "tls.crt", folder / "tls.key"
    alternatives = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names)
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=test", "-addext", f"subjectAltName={alternatives}"]
    subprocess.run(
        ["openssl", "req", *kind, *name, "-out", paths[0], "-keyout", paths[1]], capture_output=True, check=True
    )
    return paths


class Kube:
    """An API server for one service account.

    Attributes:
        secrets: what there is, by namespace and name, decoded.
        bodies: what was posted and kept.
        failing: answer 500 to everything while set.
    """

    def __init__(self, folder: Path, objects: list[Manifest], account: tuple[str, str]) -> None:
        """Start it.

        Args:
            folder: for its certificate.
            objects: those rendered Roles and RoleBindings that say what the account may do.
            account: namespace and name.
        """
        self.secrets: dict[tuple[str, str], Data] = {}
        self.bodies: list[Manifest] = []
        self.failing = False
        self._rules = _rules(objects, account)
        certificate_path, key = certificate(folder, "127.0.0.1")
        self.account = {"token": TOKEN, "ca.crt": certificate_path.read_text()}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_path, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, namespace: str) -> dict[str, Data]:
        """Return the Secrets of a namespace."""
        return {name: data for (where, name), data in self.secrets.items() if where == namespace}

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, authorization: str | None, body: bytes) -> tuple[int, Manifest]:
        """Answer one request, as the API server does."""
        parts = path.strip("/").split("/")
        assert parts[:3] == ["api", "v1", "namespaces"], path
        assert parts[4] == "secrets", path
        namespace, name = parts[3], parts[5] if len(parts) > 5 else None
        if authorization != f"Bearer {TOKEN}":
            return 401, {"message": "Unauthorized"}
        if self.failing:
            return 500, {"message": "etcd is away"}
        verb = {"GET": "get", "POST": "create"}[method]
        if not any(
            where == namespace and verb in rule["verbs"] and name in rule.get("resourceNames", [name])
            for where, rule in self._rules
        ):
            return 403, {"message": f"secrets {name} is forbidden: cannot {verb} in {namespace}"}
        if verb == "get":
            data = self.secrets.get((namespace, str(name)))
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (data or {}).items()}
            return (200, {"data": encoded}) if data else (404, {"message": f"secrets {name} not found"})
        sent: Manifest = json.loads(body)
        key = namespace, sent["metadata"]["name"]
        if key in self.secrets:
            return 409, {"message": "already exists"}
        self.secrets[key] = {name: base64.b64decode(value).decode() for name, value in sent["data"].items()}
        self.bodies.append(sent)
        return 201, sent


def _rules(objects: list[Manifest], account: tuple[str, str]) -> list[tuple[str, Manifest]]:
    roles = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["rules"]
        for obj in objects
        if obj["kind"] == "Role"
    }
    subject = {"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}
    bound = [obj for obj in objects if obj["kind"] == "RoleBinding" and subject in obj["subjects"]]
    spaces = [(obj["metadata"]["namespace"], obj["roleRef"]["name"]) for obj in bound]
    return [(space[0], rule) for space in spaces for rule in roles[space] if rule["resources"] == ["secrets"]]


def _handler(kube: Kube) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = kube.answer(self.command, self.path, self.headers.get("Authorization"), body)
            payload = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = _any  # noqa: N815 - as http.server names them

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
