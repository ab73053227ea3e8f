"""The patch of GPU nodes; test_discover.py has what it is written from."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from runner.cluster.gpu_nodes import FOLDER, MACHINE_TYPE, WORKER, patch, require_patches, workers
from runner.errors import ConfigError
from tests.support import gitops
from tests.support.trees import swap

AUTOSCALED = {"GPU": "autoscaled"}


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """A project whose GPU nodes are made as a worker on AWS."""
    shutil.copytree(project / FOLDER, tmp_path / FOLDER)
    write(tmp_path, gitops.AWS)
    return tmp_path


def write(folder: Path, kind: str) -> None:
    (folder / WORKER).write_text(patch(folder, gitops.WORKERS[kind], gitops.INFRASTRUCTURE))


def test_any_other_machine_set_is_taken_when_none_is_of_plain_workers() -> None:
    assert workers([]) == []
    sets = [{"metadata": {"name": name}, "spec": {"template": {"spec": {}}}} for name in ("b", "flywheel-gpu", "a")]
    assert [item["metadata"]["name"] for item in workers(sets)] == ["a", "b"]


def test_the_patches_are_refused_when_none_was_written_or_the_cloud_is_another(project: Path, folder: Path) -> None:
    require_patches(folder / "nowhere", {"GPU": "fixed"})
    require_patches(folder, AUTOSCALED)
    write(folder, "AzureMachineProviderSpec")
    with pytest.raises(ConfigError, match=rf"^{MACHINE_TYPE}: .*AzureMachineProviderSpec"):
        require_patches(folder, AUTOSCALED)
    shutil.copy(project / WORKER, folder / WORKER)
    with pytest.raises(ConfigError, match=rf"^{WORKER}: still REPLACE-ME"):
        require_patches(folder, AUTOSCALED)


@pytest.mark.parametrize(
    ("gpus", "count", "quota", "is_refused"),
    [
        *((each, each, each, False) for each in ("1", "2", "8")),
        *(("4", "2", "4", False), ("4", "1", "8", False)),
        *(("1", "2", "2", True), ("4", "2", "2", True), ("4", "2", "6", True), ("0", "1", "1", True)),
    ],
)
def test_a_machine_type_is_refused_when_its_gpus_do_not_suit_cluster_env(
    folder: Path, gpus: str, count: str, quota: str, is_refused: bool
) -> None:
    swap(folder / MACHINE_TYPE, 'machine.openshift.io/GPU: "1"', f'machine.openshift.io/GPU: "{gpus}"')
    values = AUTOSCALED | {"GPU_COUNT": count, "GPU_QUOTA": quota}
    with pytest.raises(ConfigError, match=str(MACHINE_TYPE)) if is_refused else nullcontext():
        require_patches(folder, values)


@pytest.mark.parametrize(
    "text", [None, "", "kind: MachineSet\n", "{", "spec: {template: {spec: {providerSpec: []}}}\n"]
)
def test_the_file_is_named_when_it_is_no_patch(folder: Path, text: str | None) -> None:
    (folder / WORKER).unlink() if text is None else (folder / WORKER).write_text(text)
    with pytest.raises(ConfigError, match=rf"{WORKER}: no patch of a MachineSet"):
        require_patches(folder, AUTOSCALED)
