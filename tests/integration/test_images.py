"""An image really built and run as OpenShift runs it: any user id, a root that nobody can write to.

The test cluster (tests/cluster/images.py) builds and runs all of them, as the user that each names.
"""

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.processes import free_port, start, stop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def base() -> None:
    images.require()


def test_no_image_when_the_constraints_are_others(project: Path) -> None:
    recipe, other = images.containerfile("runner"), "0" * 64
    with pytest.raises(RuntimeError, match=f"CONSTRAINTS is {other}"):
        images.build(recipe, project, "flywheel-test-refused", BASE=images.BASE, EXTRAS="runner", CONSTRAINTS=other)


@pytest.fixture(scope="module")
def serving(project: Path) -> Iterator[images.Container]:
    recipe = images.containerfile("serving")
    container = images.Container(
        images.build(recipe, project, "flywheel-test-serving", BASE=images.BASE, EXTRAS="serve")
    )
    yield container
    container.remove()


def test_server_ready_when_the_user_is_any(serving: images.Container, bright_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    model.chmod(0o755)  # pytest's own folders are for their owner alone
    shutil.copy(bright_model, model / "model.onnx")
    port = free_port()
    swapped = {"8080": str(port), "0.0.0.0": "127.0.0.1"}
    command = [swapped.get(word, word) for word in serving.command]
    settings = {"MODEL_URI": "/model/model.onnx", "DRAIN_SECONDS": "0"}

    def is_ready() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)

    entered = serving.enter(*command, volumes={model: "/model"})
    stop(start(entered, tmp_path / "log", is_ready, env=serving.environment | settings))
    tried = "import os; print(os.getuid()); import torch"
    done = subprocess.run(
        serving.enter("python3", "-c", tried), env=serving.environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [images.USER.partition(":")[0]]
    assert "No module named 'torch'" in done.stderr
    done = subprocess.run(serving.enter("touch", "/x"), env=serving.environment, capture_output=True, text=True)
    assert "Read-only file system" in done.stderr
