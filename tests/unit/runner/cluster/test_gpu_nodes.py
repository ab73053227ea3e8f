"""The patch of GPU nodes; test_discover.py has what it is written from."""

import shutil
from pathlib import Path

import pytest

from runner.cluster.gpu_nodes import FOLDER, MACHINE_TYPE, WORKER, patch, require_patches, workers
from runner.errors import ConfigError
from tests.support import gitops

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
    "text", [None, "", "kind: MachineSet\n", "{", "spec: {template: {spec: {providerSpec: []}}}\n"]
)
def test_the_file_is_named_when_it_is_no_patch(folder: Path, text: str | None) -> None:
    (folder / WORKER).unlink() if text is None else (folder / WORKER).write_text(text)
    with pytest.raises(ConfigError, match=rf"{WORKER}: no patch of a MachineSet"):
        require_patches(folder, AUTOSCALED)
