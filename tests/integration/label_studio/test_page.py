"""docs/wheel.md, word for word: Label Studio on one machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT
from tests.support.label_studio import PROGRAM, fresh_data, plain_environment
from tests.support.processes import free_port, unavailable
from tests.support.projects import set_params


def test_the_project_is_set_up_when_the_block_is_pasted_whole(tmp_path: Path) -> None:
    """The first start, on empty tables, and another day; the port is another one, as several may run at a time."""
    if not PROGRAM.exists():
        unavailable("this test needs Label Studio: run `make label-studio`")
    folder = tmp_path / "a project"
    shutil.copytree(PROJECT / "conf", folder / "conf")
    shutil.copy(PROJECT / "params.yaml", folder)
    shutil.copytree(fresh_data(), folder / ".work" / "label-studio")
    set_params(folder, {"dataset": {"classes": ["airplane"]}})
    block = re.search(r"```bash\n(make label-studio.*?)```", (PROJECT / "docs/wheel.md").read_text(), re.S)
    assert block
    text = (
        block[1]
        .replace("8081", str(free_port()))
        .replace("~/.cache/flywheel/label-studio/venv/bin/label-studio", str(PROGRAM))
    )
    first, rest = text.split("\n", 1)
    assert first.startswith("make label-studio ")  # installed, and `python` is this environment's
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = plain_environment() | {"PYTHONPATH": str(PROJECT), "STORE_URI": "store", "PATH": path}
    later = rest[rest.index(". .work/label-studio.env") :]
    for script, expected in ((rest, "+ project flyingthings"), (later, "nothing to change")):
        shell = subprocess.Popen(
            ["bash", "-c", f"set -e\n{script}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = shell.communicate(timeout=600)
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
        assert shell.returncode == 0 and expected in out, out
        assert re.search(r"log in at http://localhost:\d+ as me@example.com, password [0-9a-f]{24}\n", out)
    assert (folder / ".work" / "label-studio.env").stat().st_mode & 0o777 == 0o600
