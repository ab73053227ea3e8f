"""The VolumeSnapshots of docs/backups.md; no cluster of the tests has a driver for them, so their definition judges."""

import shutil
import subprocess

import pytest
import yaml

from tests.cluster.modules import downloaded
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.processes import unavailable, until

CLIENT = "github.com/kubernetes-csi/external-snapshotter/client/v8@v8.2.0"
DEFINITION = "config/crd/snapshot.storage.k8s.io_volumesnapshots.yaml"


@pytest.mark.slow
def test_snapshots_are_taken_by_their_definition_and_are_of_claims_that_are_there(api_server: ApiServer) -> None:
    if not shutil.which("go"):
        unavailable("Go fetches the definition")
    try:
        definition = yaml.safe_load((downloaded(CLIENT) / DEFINITION).read_text(encoding="utf-8"))
    except subprocess.CalledProcessError as error:
        unavailable(f"the definition cannot be fetched: {error.stdout}")
    page = (gitops.PROJECT / "docs/backups.md").read_text(encoding="utf-8")
    snapshots = list(yaml.safe_load_all(page.partition("```yaml\n")[2].partition("```")[0]))
    claims = set()
    for part in ("minio", "label-studio"):
        leaf = gitops.leaf(f"{part}/overlays/openshift")
        claims |= {
            (obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in leaf.of_kind("PersistentVolumeClaim")
        }
        for obj in leaf.of_kind("StatefulSet"):
            for claim in obj["spec"]["volumeClaimTemplates"]:
                name = f"{claim['metadata']['name']}-{obj['metadata']['name']}-0"
                claims.add((obj["metadata"]["namespace"], name))
    source = "persistentVolumeClaimName"
    assert {(each["metadata"]["namespace"], each["spec"]["source"][source]) for each in snapshots} == claims

    api_server.apply([definition])
    api_server.make_namespaces(*(namespace for namespace, _ in claims))
    until(lambda: not api_server.kubectl("get", "volumesnapshots").returncode)
    api_server.apply(snapshots)
    del snapshots[0]["spec"]["source"][source]
    api_server.apply(snapshots[:1], refused=True)
