"""What pushed code can do from a Task's Pod, and that the same question is answered where it is allowed."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.cluster.desk import Desk, Object, get, kubectl, until
from tests.cluster.places import FORGE_IP, outside
from tests.cluster.runs import NAMESPACE

OUTSIDE_IP = "172.30.0.9"  # of the machine, in none of the cluster's networks
REFUSED = {"api server": "refused", "outside": "refused"}
ALLOWED = {"api server": "answered", "outside": "answered"}
ATTACK = """
import json, os, socket, sys, time
from io import BytesIO
from urllib.parse import urlsplit
from minio import Minio
from minio.error import S3Error
from urllib3 import PoolManager

time.sleep(15)  # until the node has taken up the policies for this Pod

def answered(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return "refused"
    return "answered"

def of_store(do):
    try:
        do()
    except S3Error as error:
        return "refused" if error.code == "AccessDenied" else error.code
    return "answered"

name = os.environ["STORE_URI"].removeprefix("s3://")
key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
trust = PoolManager(ca_certs=os.environ["CA_BUNDLE"])
client = Minio(urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc, key, secret, http_client=trust)
put = lambda key: client.put_object(name, key, BytesIO(b"x"), 1)
print(json.dumps({
    "git": answered(sys.argv[1], 443),
    "api server": answered("kubernetes.default.svc", 443),
    "outside": answered(sys.argv[2], 443),
    "captures": of_store(lambda: list(client.list_objects(name, "captures/", recursive=True))),
    "datasets": of_store(lambda: list(client.list_objects(name, "datasets/", recursive=True))),
    "a version": of_store(lambda: put("models/flyingthings/1/manifest.json")),
    "a dataset": of_store(lambda: put("datasets/attack/x.jsonl")),
    "pipeline": of_store(lambda: put("pipeline/attack/x")),
    "token": "there" if os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token") else "none",
}))
"""


@contextmanager
def a_listener_outside() -> Iterator[None]:
    """Let an address outside of the cluster take connections on port 443; the kernel answers them."""
    outside("ip", "address", "add", f"{OUTSIDE_IP}/32", "dev", "lo")
    try:
        with socket.create_server((OUTSIDE_IP, 443), backlog=16):
            yield
    finally:
        outside("ip", "address", "del", f"{OUTSIDE_IP}/32", "dev", "lo")


def answers(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Run the questions in a Pod with a training's account, key and labels, beside others."""
    task = get("task", "train", NAMESPACE)
    step = next(each for each in task["spec"]["steps"] if each["name"] == "train")
    template = task["spec"]["stepTemplate"]
    container: Object = {key: template[key] for key in ("securityContext", "env", "volumeMounts")}
    container |= {"name": "train", "image": step["image"], "envFrom": step["envFrom"], "workingDir": "/source"}
    container["command"] = ["python", "-c", ATTACK, FORGE_IP, OUTSIDE_IP]
    mounted = {each["name"] for each in container["volumeMounts"]}
    volumes = [each for each in task["spec"]["volumes"] if each["name"] in mounted]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {**task["metadata"]["labels"], **labels}},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "trainer",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "fsGroup": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": volumes,
        },
    }
    kubectl("apply", NAMESPACE, "--filename=-", stdin=json.dumps(pod))
    try:
        phases = ("Succeeded", "Failed")
        until(lambda: get("pod", name, NAMESPACE).get("status", {}).get("phase") in phases, 180, name, every=1)
        said = kubectl("logs", name, NAMESPACE)
        return dict(json.loads(said.splitlines()[-1]))
    finally:
        kubectl("delete", "pod", name, NAMESPACE, "--wait=false")


def test_pushed_code_reaches_git_and_its_part_of_the_store_and_nothing_else(desk: Desk) -> None:
    """Of the installation that `desk` made, whose GIT_CIDRS is the forge's address."""
    of_store = {"git": "answered", "captures": "refused", "datasets": "answered", "a version": "refused"}
    of_store |= {"a dataset": "refused", "pipeline": "answered", "token": "none"}
    with a_listener_outside():
        assert answers("attack", {}) == {**of_store, **REFUSED}
        assert answers("attack-control", {"flywheel/apis": "client"}) == {**of_store, **ALLOWED}
