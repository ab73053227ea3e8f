"""The cluster's store from a workstation: with a key of its pods, through a port-forward to its Service.

MinIO has no address outside of the cluster. The tunnel ends at a local port; the certificate is still verified against
the Service's name.
"""

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from runner.cluster import kubectl
from runner.cluster.api import PIPELINES
from runner.errors import ClusterError
from runner.store.s3 import S3Store
from serving.storage.endpoint import endpoint_of_environment

_PATIENCE_S = 90  # kubectl itself waits a minute for a pod behind the Service


@contextmanager
def opened(values: Mapping[str, str], secret: str, namespace: str = PIPELINES) -> Iterator[S3Store]:
    """Give the store of cluster.env until the block ends, with the key in a Secret; ClusterError when it has none."""
    url = urlsplit(values["STORE_ENDPOINT"])
    user = kubectl.secret(namespace, secret)
    if not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= user.keys():
        raise ClusterError(
            f"Secret {secret} in {namespace} has no key for the store; delete it, and sync Argo CD's Application "
            "credentials, whose Job makes it (where the store is outside the cluster: make it yourself)"
        )
    endpoint = endpoint_of_environment()._replace(
        url=url.geturl(), access_key=user["AWS_ACCESS_KEY_ID"], secret_key=user["AWS_SECRET_ACCESS_KEY"]
    )
    with ExitStack() as stack:
        if service := re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\.cluster\.local)?", url.hostname or ""):
            port = url.port or (443 if url.scheme == "https" else 80)
            address = stack.enter_context(tunnel(service[2], service[1], port))
            bundle = None
            config_map = kubectl.get(f"/api/v1/namespaces/{PIPELINES}/configmaps/store-ca") or {}
            trusted = (config_map.get("data") or {}).get("service-ca.crt")
            trusted = trusted or kubectl.secret(PIPELINES, "store-ca").get("ca.crt")
            if trusted:  # none where the store's certificate is of a public authority
                bundle = f"{stack.enter_context(tempfile.TemporaryDirectory(prefix='flywheel-'))}/ca.crt"
                Path(bundle).write_text(trusted, encoding="utf-8")
            endpoint = endpoint._replace(url=f"{url.scheme}://{address}", ca_bundle=bundle, server_name=url.hostname)
        yield S3Store(values["STORE_URI"].removeprefix("s3://"), endpoint)


@contextmanager
def tunnel(namespace: str, service: str, port: int) -> Iterator[str]:
    """Forward a local port to a Service until the block ends; give its address, host:port."""
    where = ("--namespace", namespace, "--address", "127.0.0.1")
    with tempfile.NamedTemporaryFile() as said:  # no pipe: it would fill, as every connection is logged
        process = subprocess.Popen(
            [kubectl.command(), "port-forward", *where, f"service/{service}", f":{port}"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            end = time.monotonic() + _PATIENCE_S
            while not (found := re.search(rb"Forwarding from (127\.0\.0\.1:\d+) ->", Path(said.name).read_bytes())):
                if process.poll() is not None or time.monotonic() > end:
                    answer = " ".join(Path(said.name).read_text(errors="replace").split()) or "no answer"
                    raise ClusterError(
                        f"service/{service} in {namespace} is not to be reached: {answer}; look at its pods, and "
                        "whether you may forward ports, then run this again"
                    )
                time.sleep(0.1)
            yield found[1].decode()
        finally:
            process.terminate()
            process.wait()
